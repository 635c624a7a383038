// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

import type { StartClient } from './client.js';
import { startContainerd } from './containerd.js';
import { startCrane } from './crane.js';
import { startDocker } from './docker.js';
import { startOras } from './oras.js';
import { startRegctl } from './regctl.js';
import { startSkopeo } from './skopeo.js';

/** All that are driven. */
export const clients: Readonly<Record<string, StartClient>> = {
  crane: startCrane,
  oras: startOras,
  regctl: startRegctl,
  skopeo: startSkopeo,
  docker: startDocker,
  containerd: startContainerd,
};
