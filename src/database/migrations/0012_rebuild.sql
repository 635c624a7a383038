-- SPDX-FileCopyrightText: 2026 The ha-registry authors
-- SPDX-License-Identifier: EUPL-1.2

-- What rebuilding the index from the store needs.

ALTER TABLE cluster
  -- While set, the index is incomplete: no node starts on it. It is unset when the rebuild is complete.
  ADD COLUMN rebuild_started_at timestamptz,
  -- Until then nothing is collected: the index was rebuilt, or has adopted what it lacked.
  ADD COLUMN gc_not_before timestamptz;

-- Data that lie elsewhere in the store than at data_key(uuid): a store of another program's, taken over where it lies. Such an object is not ours to delete:
-- object_trash never names it. The uuid of such data is of version 8, made from the digest (storage/keys.ts).
ALTER TABLE blobs ADD COLUMN key text COLLATE "C";

-- Objects of the store that do not fit: entries that are not served, and data whose bytes are wrong. Nothing of it is deleted.
CREATE TABLE quarantine (
  key text COLLATE "C" PRIMARY KEY,
  reason text NOT NULL,
  found_at timestamptz NOT NULL DEFAULT now()
);

-- How far a rebuild has come: a row per part of the store that is walked on its own.
CREATE TABLE rebuild_progress (
  shard text COLLATE "C" PRIMARY KEY,
  -- Everything up to this key is in the index.
  position text COLLATE "C" NOT NULL DEFAULT '',
  done boolean NOT NULL DEFAULT false,
  largest_sequence bigint NOT NULL DEFAULT 0,
  counts jsonb NOT NULL DEFAULT '{}'
);

-- Links whose data are a second copy of a digest. They get a new entry, to the first copy, at the end of the rebuild.
CREATE TABLE rebuild_second_copies (
  repository text COLLATE "C" NOT NULL,
  digest bytea NOT NULL,
  uuid uuid NOT NULL,
  sequence bigint NOT NULL,
  PRIMARY KEY (repository, digest)
);

-- Adopts an entry of the store: the pending write that it once had, so that the steps of the write protocol can commit it. False when a living node is writing it,
-- or has withdrawn it: then it is not ours to decide.
CREATE FUNCTION adopt_entry(p_node uuid, p_sequence bigint, p_repository text, p_templates text[]) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
  PERFORM hold_node(p_node);
  PERFORM 1 FROM pending_writes p, cluster c
  WHERE p.sequence = p_sequence AND p.generation >= c.generation AND EXISTS (SELECT 1 FROM nodes n WHERE n.id = p.node);
  IF FOUND THEN RETURN false; END IF;
  PERFORM 1 FROM object_trash WHERE key IN (SELECT entry_key(template, p_sequence) FROM unnest(p_templates) template) AND reason IN ('refused', 'expired');
  IF FOUND THEN RETURN false; END IF;
  INSERT INTO pending_writes (sequence, node, generation, repository, templates)
  SELECT p_sequence, p_node, generation, p_repository, p_templates FROM cluster ON CONFLICT DO NOTHING;
  DELETE FROM object_trash WHERE key IN (SELECT entry_key(template, p_sequence) FROM unnest(p_templates) template);
  RETURN true;
END $$;

-- Data that an adopted link names belong to no upload and to no trash any more.
CREATE FUNCTION keep_data(p_uuid uuid) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  DELETE FROM upload_sessions WHERE data_uuid = p_uuid;
  DELETE FROM object_trash WHERE key = data_key(p_uuid);
END $$;

-- A tag's entry alone; its manifest is there. False when it is not.
CREATE FUNCTION adopt_tag(p_node uuid, p_sequence bigint, p_repository text, p_tag text, p_digest bytea, p_path text, p_at timestamptz) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE v_repository_id bigint;
BEGIN
  PERFORM hold_node(p_node);
  PERFORM settle(p_sequence);
  v_repository_id := ensure_repository(p_repository);
  PERFORM 1 FROM manifests WHERE repository_id = v_repository_id AND digest = p_digest FOR KEY SHARE;
  IF NOT FOUND THEN RETURN false; END IF;
  PERFORM lock_tag(p_path);
  INSERT INTO tag_history (repository_id, name, sequence, digest, at) VALUES (v_repository_id, p_tag, p_sequence, p_digest, p_at) ON CONFLICT DO NOTHING;
  PERFORM 1 FROM tombstones WHERE path = p_path AND sequence > p_sequence;
  IF FOUND THEN RETURN true; END IF;
  DELETE FROM tombstones WHERE path = p_path;
  INSERT INTO tags (repository_id, name, digest, sequence, updated_at) VALUES (v_repository_id, p_tag, p_digest, p_sequence, p_at)
  ON CONFLICT (repository_id, name) DO UPDATE SET digest = EXCLUDED.digest, sequence = EXCLUDED.sequence, updated_at = EXCLUDED.updated_at
  WHERE tags.sequence < EXCLUDED.sequence;
  RETURN true;
END $$;

-- Rows whose entries are not in the store. Each goes only while it still has the sequence that was looked for.

CREATE FUNCTION drop_link(p_node uuid, p_repository text, p_digest bytea, p_sequence bigint) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE v_repository_id bigint;
BEGIN
  PERFORM hold_node(p_node);
  SELECT id INTO v_repository_id FROM repositories WHERE name = p_repository;
  PERFORM lock_arrival(v_repository_id, p_digest, false);
  PERFORM 1 FROM repository_blobs WHERE repository_id = v_repository_id AND digest = p_digest AND sequence = p_sequence FOR UPDATE;
  IF NOT FOUND THEN RETURN false; END IF;
  WITH referring AS (
    DELETE FROM manifest_blobs WHERE repository_id = v_repository_id AND digest = p_digest RETURNING manifest
  ) INSERT INTO missing_references SELECT v_repository_id, manifest, p_digest, 'blob' FROM referring ON CONFLICT DO NOTHING;
  DELETE FROM repository_blobs WHERE repository_id = v_repository_id AND digest = p_digest;
  RETURN true;
END $$;

CREATE FUNCTION drop_manifest(p_node uuid, p_repository text, p_digest bytea, p_sequence bigint) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE v_repository_id bigint;
BEGIN
  PERFORM hold_node(p_node);
  SELECT id INTO v_repository_id FROM repositories WHERE name = p_repository;
  PERFORM lock_arrival(v_repository_id, p_digest, false);
  PERFORM 1 FROM manifests WHERE repository_id = v_repository_id AND digest = p_digest AND sequence = p_sequence FOR UPDATE;
  IF NOT FOUND THEN RETURN false; END IF;
  DELETE FROM tags WHERE repository_id = v_repository_id AND digest = p_digest;
  WITH parents AS (
    DELETE FROM manifest_children WHERE repository_id = v_repository_id AND digest = p_digest RETURNING manifest
  ) INSERT INTO missing_references SELECT v_repository_id, manifest, p_digest, 'manifest' FROM parents WHERE manifest <> p_digest ON CONFLICT DO NOTHING;
  DELETE FROM manifests WHERE repository_id = v_repository_id AND digest = p_digest;
  RETURN true;
END $$;

-- A tag row, or an older entry of its history.
CREATE FUNCTION drop_tag_entry(p_node uuid, p_repository text, p_tag text, p_path text, p_sequence bigint) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE v_repository_id bigint;
BEGIN
  PERFORM hold_node(p_node);
  SELECT id INTO v_repository_id FROM repositories WHERE name = p_repository;
  PERFORM lock_tag(p_path);
  DELETE FROM tags WHERE repository_id = v_repository_id AND name = p_tag AND sequence = p_sequence;
  DELETE FROM tombstones WHERE path = p_path AND sequence = p_sequence;
  DELETE FROM tag_history WHERE repository_id = v_repository_id AND name = p_tag AND sequence = p_sequence;
  RETURN FOUND;
END $$;
