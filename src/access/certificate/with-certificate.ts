// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import type { Identity } from '../identity.js';

/** Decisions are remembered by identity, so the same two make the same one. */
const combined = new WeakMap<Identity, WeakMap<Identity, Identity>>();

/** hot: who somebody is by a password or token, on a connection that showed a certificate, so that a policy may demand both. */
export function withCertificate(identity: Identity, shown: Identity | undefined): Identity {
  if (shown === undefined) return identity;
  let others = combined.get(identity);
  if (others === undefined) combined.set(identity, (others = new WeakMap()));
  let both = others.get(shown);
  if (both === undefined) others.set(shown, (both = { ...identity, certificate: shown.certificate }));
  return both;
}
