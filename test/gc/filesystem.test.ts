// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import t from 'tap';
import { interleavings } from './interleavings.js';

interleavings(t, () => Promise.resolve({}));
