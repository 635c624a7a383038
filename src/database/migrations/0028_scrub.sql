-- SPDX-FileCopyrightText: 2026 The ha-registry authors
-- SPDX-License-Identifier: EUPL-1.2

-- Scrub: data that are read again and again, what is found damaged, and how that is healed.

ALTER TABLE blobs
  -- When the data were last compared with their digest; before that, when they were uploaded, since an upload compares them.
  ADD COLUMN checked_at timestamptz,
  -- Why the data count as damaged.
  ADD COLUMN damage text,
  ADD COLUMN damaged_at timestamptz,
  -- Of the mark in the store (storage/damage-marks.ts), which keeps reads without Postgres from the data.
  ADD COLUMN damage_sequence bigint,
  -- The mark is in the store.
  ADD COLUMN damage_marked boolean NOT NULL DEFAULT false;
CREATE INDEX blobs_unchecked ON blobs ((COALESCE(checked_at, created_at)), digest, uuid);
CREATE INDEX blobs_damaged ON blobs (digest, uuid) WHERE damaged;

-- How far the walks over entries and rows have come: a row per walk.
CREATE TABLE scrub_walks (
  walk text COLLATE "C" PRIMARY KEY,
  -- Everything up to here has been compared; empty at the beginning.
  position text[] COLLATE "C" NOT NULL DEFAULT '{}',
  begun_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  -- Null while the walk is under way.
  completed_at timestamptz
);

-- Data that are damaged are not there: a manifest that names them is told so, and a push brings them again.
CREATE OR REPLACE FUNCTION missing_of(p_repository_id bigint, p_blobs bytea[], p_children bytea[]) RETURNS bytea[] LANGUAGE sql STABLE AS $$
  SELECT COALESCE(array_agg(digest ORDER BY digest), '{}') FROM (
    SELECT digest FROM unnest(p_blobs) digest
    WHERE NOT EXISTS (
      SELECT 1 FROM repository_blobs rb JOIN blobs b ON b.digest = rb.digest AND b.uuid = rb.uuid AND NOT b.damaged
      WHERE rb.repository_id = p_repository_id AND rb.digest = digest.digest
    )
    UNION ALL
    SELECT digest FROM unnest(p_children) digest
    WHERE NOT EXISTS (SELECT 1 FROM manifests m WHERE m.repository_id = p_repository_id AND m.digest = digest.digest)
  ) missing
$$;

-- As storage/keys.ts has it.
CREATE FUNCTION damage_key(p_uuid uuid, p_sequence bigint) RETURNS text LANGUAGE sql IMMUTABLE AS $$
  SELECT entry_key('cluster/damaged/' || p_uuid || '/%', p_sequence)
$$;

-- From now on nobody is told that the data exist. The mark's sequence; null when the row is gone, or damaged already.
CREATE FUNCTION mark_damaged(p_node uuid, p_digest bytea, p_uuid uuid, p_reason text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE v_sequence bigint; v_key text;
BEGIN
  PERFORM hold_node(p_node);
  UPDATE blobs SET damaged = true, damage = p_reason, damaged_at = clock_timestamp(), damage_sequence = nextval('entry_sequence'), damage_marked = false
  WHERE digest = p_digest AND uuid = p_uuid AND NOT damaged RETURNING damage_sequence, COALESCE(key, data_key(uuid)) INTO v_sequence, v_key;
  IF NOT FOUND THEN RETURN NULL; END IF;
  INSERT INTO quarantine (key, reason) VALUES (v_key, p_reason) ON CONFLICT (key) DO UPDATE SET reason = EXCLUDED.reason, found_at = clock_timestamp();
  RETURN v_sequence;
END $$;

-- Damaged data that have no mark in the store yet (a rebuild found them, or the store failed), with the sequence that it gets.
CREATE FUNCTION list_unmarked_damage(p_node uuid, p_limit integer) RETURNS TABLE (digest bytea, uuid uuid, sequence bigint) LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
  PERFORM hold_node(p_node);
  RETURN QUERY WITH unmarked AS (
    SELECT b.digest, b.uuid FROM blobs b WHERE b.damaged AND NOT b.damage_marked ORDER BY b.digest, b.uuid LIMIT p_limit FOR NO KEY UPDATE SKIP LOCKED
  ) UPDATE blobs b SET damage_sequence = COALESCE(b.damage_sequence, nextval('entry_sequence')), damaged_at = COALESCE(b.damaged_at, clock_timestamp())
  FROM unmarked u WHERE b.digest = u.digest AND b.uuid = u.uuid RETURNING b.digest, b.uuid, b.damage_sequence;
END $$;

-- The bytes are right again: somebody brought the object back. False where another copy counts by now.
CREATE FUNCTION clear_damage(p_node uuid, p_digest bytea, p_uuid uuid) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE v_old blobs;
BEGIN
  PERFORM hold_node(p_node);
  SELECT * INTO v_old FROM blobs WHERE digest = p_digest AND uuid = p_uuid AND damaged FOR NO KEY UPDATE;
  IF NOT FOUND THEN RETURN false; END IF;
  PERFORM 1 FROM blobs WHERE digest = p_digest AND NOT damaged;
  IF FOUND THEN RETURN false; END IF;
  UPDATE blobs SET damaged = false, damage = NULL, damaged_at = NULL, damage_sequence = NULL, damage_marked = false, checked_at = clock_timestamp()
  WHERE digest = p_digest AND uuid = p_uuid;
  PERFORM forget_damage(v_old);
  WITH arrived AS (
    DELETE FROM missing_references m USING repository_blobs rb
    WHERE rb.digest = p_digest AND rb.uuid = p_uuid AND m.repository_id = rb.repository_id AND m.digest = p_digest AND m.kind = 'blob'
    RETURNING m.repository_id, m.manifest
  ) INSERT INTO manifest_blobs SELECT repository_id, manifest, p_digest FROM arrived ON CONFLICT DO NOTHING;
  RETURN true;
END $$;

-- The mark goes by the trash; a node that froze may write it after that, so it goes twice.
CREATE FUNCTION forget_damage(v blobs) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  DELETE FROM quarantine WHERE quarantine.key = COALESCE(v.key, data_key(v.uuid));
  IF v.damage_sequence IS NOT NULL THEN
    INSERT INTO object_trash (key, reason, repeat_at) VALUES (damage_key(v.uuid, v.damage_sequence), 'healed', now() + interval '1 day') ON CONFLICT DO NOTHING;
  END IF;
END $$;

-- Whoever deletes a damaged row takes its mark along, and nobody brings its data back. (It fires after gc_blobs_gone, which hands the data to the trash.)
CREATE FUNCTION damaged_blobs_gone() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  UPDATE object_trash t SET claimed_at = clock_timestamp() FROM gone WHERE gone.damaged AND t.key = data_key(gone.uuid);
  PERFORM forget_damage(gone) FROM gone WHERE gone.damaged;
  RETURN NULL;
END $$;
CREATE TRIGGER scrub_damaged_blobs_gone AFTER DELETE ON blobs REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION damaged_blobs_gone();

-- The links of damaged data move when their digest was pushed again; the row goes with the last of them (retire_damaged), which is told.
CREATE OR REPLACE FUNCTION gc_link_moved() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO gc_blobs (digest, uuid, due) SELECT digest, uuid, clock_timestamp() FROM blobs WHERE digest = OLD.digest AND uuid = OLD.uuid AND NOT damaged;
  RETURN NULL;
END $$;

-- A damaged row whose links all lead elsewhere by now.
CREATE FUNCTION retire_damaged(p_node uuid, p_digest bytea, p_uuid uuid) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
  PERFORM hold_node(p_node);
  PERFORM 1 FROM blobs WHERE digest = p_digest AND uuid = p_uuid AND damaged FOR UPDATE;
  IF NOT FOUND THEN RETURN false; END IF;
  PERFORM 1 FROM repository_blobs WHERE digest = p_digest AND uuid = p_uuid;
  IF FOUND THEN RETURN false; END IF;
  DELETE FROM blobs WHERE digest = p_digest AND uuid = p_uuid;
  RETURN true;
END $$;


-- Entries that the store has lost, though their rows count: each is written again, as an entry of its own with a new sequence.

-- A row that somebody is changing is left to them. Whoever drew a lower sequence would lose what they were told succeeded; so at the commit all transactions that
-- ran when ours was drawn must have ended (p_xid), and nothing may be pending under the prefix.
CREATE FUNCTION settle_alone(p_sequence bigint, p_repository text, p_prefix text, p_xid xid8) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM settle(p_sequence);
  IF pg_snapshot_xmin(pg_current_snapshot()) <= p_xid OR is_pending(p_repository, ARRAY[p_prefix]) THEN
    RAISE EXCEPTION 'others are writing under %', p_prefix USING ERRCODE = 'HA001';
  END IF;
END $$;

CREATE FUNCTION intend_alone(p_node uuid, p_repository text, p_prefix text, p_templates text[]) RETURNS TABLE (sequence bigint, xid xid8) LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
  PERFORM hold_node(p_node);
  IF is_pending(p_repository, ARRAY[p_prefix]) THEN RAISE EXCEPTION 'others are writing under %', p_prefix USING ERRCODE = 'HA001'; END IF;
  RETURN QUERY SELECT intend(p_node, p_repository, p_templates, NULL), pg_current_xact_id();
END $$;

-- p_from and p_uuid: the data that the link leads to, and shall lead to.
CREATE FUNCTION commit_rewritten_link(p_node uuid, p_sequence bigint, p_xid xid8, p_repository text, p_digest bytea, p_prefix text, p_old bigint, p_from uuid, p_uuid uuid)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE v_repository_id bigint;
BEGIN
  PERFORM hold_node(p_node);
  PERFORM settle_alone(p_sequence, p_repository, p_prefix, p_xid);
  SELECT id INTO STRICT v_repository_id FROM repositories WHERE name = p_repository;
  PERFORM lock_arrival(v_repository_id, p_digest, false);
  PERFORM 1 FROM blobs WHERE digest = p_digest AND uuid = p_uuid AND (p_from = p_uuid OR NOT damaged) FOR KEY SHARE;
  IF NOT FOUND THEN RAISE EXCEPTION 'the data have changed meanwhile' USING ERRCODE = 'HA001'; END IF;
  UPDATE repository_blobs SET sequence = p_sequence, uuid = p_uuid
  WHERE repository_id = v_repository_id AND digest = p_digest AND sequence = p_old AND uuid = p_from;
  IF NOT FOUND THEN RAISE EXCEPTION 'the link has changed meanwhile' USING ERRCODE = 'HA001'; END IF;
  PERFORM trash(ARRAY[entry_key(p_prefix || '%.' || p_from, p_old)], 'superseded');
  WITH arrived AS (
    DELETE FROM missing_references WHERE p_from <> p_uuid AND repository_id = v_repository_id AND digest = p_digest AND kind = 'blob' RETURNING manifest
  ) INSERT INTO manifest_blobs SELECT v_repository_id, manifest, p_digest FROM arrived ON CONFLICT DO NOTHING;
END $$;

CREATE FUNCTION commit_rewritten_manifest(p_node uuid, p_sequence bigint, p_xid xid8, p_repository text, p_digest bytea, p_prefix text, p_old bigint, p_superseded text[])
RETURNS void LANGUAGE plpgsql AS $$
DECLARE v_repository_id bigint;
BEGIN
  PERFORM hold_node(p_node);
  PERFORM settle_alone(p_sequence, p_repository, p_prefix, p_xid);
  SELECT id INTO STRICT v_repository_id FROM repositories WHERE name = p_repository;
  PERFORM lock_arrival(v_repository_id, p_digest, false);
  UPDATE manifests SET sequence = p_sequence WHERE repository_id = v_repository_id AND digest = p_digest AND sequence = p_old;
  IF NOT FOUND THEN RAISE EXCEPTION 'the manifest has changed meanwhile' USING ERRCODE = 'HA001'; END IF;
  PERFORM trash((SELECT array_agg(entry_key(template, p_old)) FROM unnest(p_superseded) template), 'superseded');
END $$;

-- Null p_digest: the tag's deletion. The history says when, and that does not change.
CREATE FUNCTION commit_rewritten_tag(p_node uuid, p_sequence bigint, p_xid xid8, p_repository text, p_tag text, p_prefix text, p_old bigint, p_digest bytea)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE v_repository_id bigint;
BEGIN
  PERFORM hold_node(p_node);
  PERFORM settle_alone(p_sequence, p_repository, p_prefix, p_xid);
  SELECT id INTO STRICT v_repository_id FROM repositories WHERE name = p_repository;
  PERFORM lock_tag(p_prefix);
  IF p_digest IS NULL THEN
    UPDATE tombstones SET sequence = p_sequence WHERE path = p_prefix AND sequence = p_old;
  ELSE
    UPDATE tags SET sequence = p_sequence WHERE repository_id = v_repository_id AND name = p_tag AND sequence = p_old AND digest = p_digest;
  END IF;
  IF NOT FOUND THEN RAISE EXCEPTION 'the tag has changed meanwhile' USING ERRCODE = 'HA001'; END IF;
  UPDATE tag_history SET sequence = p_sequence WHERE repository_id = v_repository_id AND name = p_tag AND sequence = p_old;
END $$;

-- The deletion of a link or a manifest.
CREATE FUNCTION commit_rewritten_deletion(p_node uuid, p_sequence bigint, p_xid xid8, p_repository text, p_digest bytea, p_prefix text, p_old bigint)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE v_repository_id bigint;
BEGIN
  PERFORM hold_node(p_node);
  PERFORM settle_alone(p_sequence, p_repository, p_prefix, p_xid);
  SELECT id INTO STRICT v_repository_id FROM repositories WHERE name = p_repository;
  PERFORM lock_arrival(v_repository_id, p_digest, false);
  UPDATE tombstones SET sequence = p_sequence WHERE path = p_prefix AND sequence = p_old;
  IF NOT FOUND THEN RAISE EXCEPTION 'the deletion has changed meanwhile' USING ERRCODE = 'HA001'; END IF;
END $$;
