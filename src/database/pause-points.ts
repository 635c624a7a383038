// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/**
 * Named places between two steps where a test can hold the code, to bring about an interleaving that no request can be timed for. Outside of tests `reached` is
 * undefined, and so `await pausePoints.reached?.('…')` evaluates to nothing.
 */
export const pausePoints: { reached?: ((place: string) => Promise<void> | void) | undefined } = {};
