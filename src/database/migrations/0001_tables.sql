-- SPDX-FileCopyrightText: 2026 The ha-registry authors
-- SPDX-License-Identifier: EUPL-1.2

-- The index over the store: every row here can be rebuilt from the store's entries, but for sessions and pending writes.
-- Digests are one byte for the algorithm (1 sha256, 2 sha512) and the hash. Names sort as bytes.

CREATE TABLE cluster (
  singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
  id uuid NOT NULL DEFAULT gen_random_uuid(),
  generation bigint NOT NULL DEFAULT 1
);
INSERT INTO cluster DEFAULT VALUES;

CREATE TABLE nodes (
  id uuid PRIMARY KEY,
  version text NOT NULL,
  started_at timestamptz NOT NULL DEFAULT now(),
  heartbeat_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE repositories (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  name text COLLATE "C" NOT NULL UNIQUE,
  created_at timestamptz NOT NULL DEFAULT now()
);

-- A digest's bytes lie in data/…/<uuid>; one undamaged copy counts.
CREATE TABLE blobs (
  digest bytea NOT NULL,
  uuid uuid NOT NULL,
  size bigint NOT NULL,
  damaged boolean NOT NULL DEFAULT false,
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (digest, uuid)
);
CREATE UNIQUE INDEX blobs_undamaged ON blobs (digest) WHERE NOT damaged;

-- Links: what a repository may read.
CREATE TABLE repository_blobs (
  repository_id bigint NOT NULL REFERENCES repositories,
  digest bytea NOT NULL,
  uuid uuid NOT NULL,
  sequence bigint NOT NULL,
  due_at timestamptz NOT NULL,
  PRIMARY KEY (repository_id, digest),
  FOREIGN KEY (digest, uuid) REFERENCES blobs
);
CREATE INDEX repository_blobs_blob ON repository_blobs (digest, uuid);

CREATE TABLE manifests (
  repository_id bigint NOT NULL REFERENCES repositories,
  digest bytea NOT NULL,
  sequence bigint NOT NULL,
  media_type text NOT NULL,
  bytes bytea NOT NULL,
  subject bytea,
  artifact_type text,
  annotations jsonb,
  due_at timestamptz NOT NULL,
  pushed_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (repository_id, digest)
);
-- A pull sends the bytes as they are; compressing them would cost each of them a decompression.
ALTER TABLE manifests ALTER COLUMN bytes SET STORAGE EXTERNAL;
CREATE INDEX manifests_subject ON manifests (repository_id, subject, digest) WHERE subject IS NOT NULL;

CREATE TABLE manifest_blobs (
  repository_id bigint NOT NULL,
  manifest bytea NOT NULL,
  digest bytea NOT NULL,
  PRIMARY KEY (repository_id, manifest, digest),
  FOREIGN KEY (repository_id, manifest) REFERENCES manifests ON DELETE CASCADE,
  FOREIGN KEY (repository_id, digest) REFERENCES repository_blobs
);
CREATE INDEX manifest_blobs_blob ON manifest_blobs (repository_id, digest);

CREATE TABLE manifest_children (
  repository_id bigint NOT NULL,
  manifest bytea NOT NULL,
  digest bytea NOT NULL,
  PRIMARY KEY (repository_id, manifest, digest),
  FOREIGN KEY (repository_id, manifest) REFERENCES manifests ON DELETE CASCADE,
  FOREIGN KEY (repository_id, digest) REFERENCES manifests
);
CREATE INDEX manifest_children_child ON manifest_children (repository_id, digest);

-- References that a manifest may have although what they name is not here (yet). They become rows of the two tables above when it arrives.
CREATE TABLE missing_references (
  repository_id bigint NOT NULL,
  manifest bytea NOT NULL,
  digest bytea NOT NULL,
  kind text NOT NULL CHECK (kind IN ('blob', 'manifest')),
  PRIMARY KEY (repository_id, manifest, digest, kind),
  FOREIGN KEY (repository_id, manifest) REFERENCES manifests ON DELETE CASCADE
);
CREATE INDEX missing_references_digest ON missing_references (repository_id, digest);

CREATE TABLE tags (
  repository_id bigint NOT NULL REFERENCES repositories,
  name text COLLATE "C" NOT NULL,
  digest bytea NOT NULL,
  sequence bigint NOT NULL,
  updated_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (repository_id, name),
  FOREIGN KEY (repository_id, digest) REFERENCES manifests
);
CREATE INDEX tags_manifest ON tags (repository_id, digest);

-- A row per entry of a tag; digest is null where it was deleted.
CREATE TABLE tag_history (
  repository_id bigint NOT NULL REFERENCES repositories,
  name text COLLATE "C" NOT NULL,
  sequence bigint NOT NULL,
  digest bytea,
  at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (repository_id, name, sequence)
);

-- Deleted things, for as long as their .deleted entry is in the store. `path` is the entry's prefix.
CREATE TABLE tombstones (
  path text COLLATE "C" PRIMARY KEY,
  repository_id bigint NOT NULL REFERENCES repositories,
  sequence bigint NOT NULL
);

-- An upload's data object is registered here before its first byte. `revision` fences: whoever holds an older one cannot commit.
CREATE TABLE upload_sessions (
  id uuid PRIMARY KEY,
  repository text COLLATE "C" NOT NULL,
  data_uuid uuid NOT NULL,
  algorithm text NOT NULL,
  bytes_received bigint NOT NULL DEFAULT 0,
  -- The hash of the first bytes_received - length(tail) bytes; those are in the data object, the tail is not (yet).
  hash_state bytea,
  tail bytea,
  node uuid,
  lease_until timestamptz,
  revision bigint NOT NULL DEFAULT 1,
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX upload_sessions_updated ON upload_sessions (updated_at);

-- Intents: what a node is about to write to the store. Gone with the commit; the delete of a row is the fence.
CREATE SEQUENCE entry_sequence AS bigint;
CREATE TABLE pending_writes (
  sequence bigint PRIMARY KEY DEFAULT nextval('entry_sequence'),
  node uuid NOT NULL,
  generation bigint NOT NULL,
  repository text COLLATE "C" NOT NULL,
  templates text[] NOT NULL,
  -- For a deletion, what to roll forward when its node dies: {"tag": …} or {"manifest": …, "tags": […]} or {"blob": …}.
  deletion jsonb,
  outcome_unknown boolean NOT NULL DEFAULT false,
  created_at timestamptz NOT NULL DEFAULT now()
);
ALTER SEQUENCE entry_sequence OWNED BY pending_writes.sequence;
CREATE INDEX pending_writes_repository ON pending_writes (repository);

-- Objects that no row names any more and that are to be deleted from the store. Nothing else is ever deleted.
CREATE TABLE object_trash (
  key text COLLATE "C" PRIMARY KEY,
  reason text NOT NULL,
  not_before timestamptz NOT NULL DEFAULT now(),
  -- A write of a node that hung may land after the deletion: such keys are deleted a second time.
  repeat_at timestamptz
);
CREATE INDEX object_trash_due ON object_trash (not_before);
