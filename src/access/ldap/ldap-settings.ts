// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import type { Config } from '../../config/config.js';

export type LdapSettings = NonNullable<Config['ldap']>;
