// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** What a client can be asked to do. An operation that a client does not have is left out. All reject when the client fails. */
import type { Image, Layout } from './images.js';

/** `host:port/repository:tag`, or `…@digest`. */
export type Name = string;

export interface Client {
  readonly version: string;
  /** Is somebody from now on; rejects where the client asks the registry at once, and is refused. */
  readonly logIn: (username: string, password: string) => Promise<void>;
  /** Does it copy an index with all that is in it? */
  readonly copiesIndexes: boolean;
  /** Does it go on with a Range request when a download broke off? */
  readonly resumesPulls: boolean;
  /** Pushes all of a layout and returns the digest that it says it pushed. */
  readonly push: (layout: Layout, target: Name) => Promise<string>;
  readonly copy: (source: Name, target: Name) => Promise<void>;
  /** Pulls into an empty store, checks the content there, and returns the digest. */
  readonly pull: (source: Name) => Promise<string>;
  /** Pulls into an image layout in an empty directory. */
  readonly pullLayout?: (source: Name, directory: string) => Promise<void>;
  /** Pushes layers whose length it does not know when it begins. */
  readonly pushStream?: (image: Image, target: Name) => Promise<void>;
  readonly listTags?: (repository: Name) => Promise<string[]>;
  readonly listRepositories?: (host: string) => Promise<string[]>;
  readonly attach?: (file: string, subject: Name, artifactType: string) => Promise<void>;
  /** Digests of the referrers of one type. */
  readonly discover?: (subject: Name, artifactType: string) => Promise<string[]>;
  readonly deleteTag?: (name: Name) => Promise<void>;
  /** Deletes by digest, and so all tags of it. */
  readonly deleteManifest?: (name: Name, digest: string) => Promise<void>;
  readonly pushBlob?: (file: string, repository: Name, digest: string) => Promise<void>;
  /** Like `pushBlob`, in pieces of 1 MiB by PATCH with Content-Range. */
  readonly pushBlobInChunks?: (file: string, repository: Name, digest: string) => Promise<void>;
  readonly fetchBlob?: (repository: Name, digest: string) => Promise<string>;
  readonly deleteBlob?: (repository: Name, digest: string) => Promise<void>;
  /** Does `push` try to mount without naming a source? */
  readonly mountsAnonymously?: boolean;
  readonly close?: () => Promise<void>;
}

export interface ClientStart {
  /** An empty directory of its own, for settings, caches and what it pulls. */
  readonly scratch: string;
  /** The registry as the client sees it. */
  readonly host: string;
  /** Without it the registry speaks plain HTTP. */
  readonly tls?: Tls;
}

export interface Tls {
  /** PEM file of the authority that the registry's certificate is from, and that no machine knows. */
  readonly authorityFile: string;
  /** For HTTPS_PROXY. */
  readonly proxyUrl: string;
}

/** Finds or installs a client and prepares it. Says why when it cannot be had. */
export type StartClient = (start: ClientStart) => Promise<Client | { readonly missing: string }>;

/** A program in its own surroundings: no settings, no credentials, no caches of the user's. */
export function isolated(scratch: string, tls?: Tls): Record<string, string> {
  return {
    ...(tls === undefined ? {} : { HTTPS_PROXY: tls.proxyUrl, https_proxy: tls.proxyUrl, NO_PROXY: '', no_proxy: '' }),
    HOME: scratch,
    XDG_CONFIG_HOME: `${scratch}/config`,
    XDG_DATA_HOME: `${scratch}/data`,
    XDG_CACHE_HOME: `${scratch}/cache`,
    XDG_RUNTIME_DIR: scratch,
    DOCKER_CONFIG: `${scratch}/docker`,
  };
}
