// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** The settings of TLS. */
import { z } from 'zod';
import { readableFile } from './values.js';

export const tls = z.strictObject({ server_certificate_bundle: readableFile, server_private_key: readableFile });
