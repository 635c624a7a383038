-- SPDX-FileCopyrightText: 2026 The ha-registry authors
-- SPDX-License-Identifier: EUPL-1.2

-- Undo: a manifest that a client deleted can come back inside the undo window. Its row, its entries and its tags go at once; its bytes are kept here, and what it consists
-- of stays because the times of those rows are moved on. A restore writes new entries, as any push does. After a rebuild there is nothing here.

CREATE TABLE deleted_manifests (
  repository_id bigint NOT NULL REFERENCES repositories,
  digest bytea NOT NULL,
  -- Of its deletion, and of the deletion of the tags that went with it.
  sequence bigint NOT NULL,
  tags text[] NOT NULL,
  media_type text NOT NULL,
  bytes bytea NOT NULL,
  deleted_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  keep_until timestamptz NOT NULL,
  PRIMARY KEY (repository_id, digest)
);
ALTER TABLE deleted_manifests ALTER COLUMN bytes SET STORAGE EXTERNAL;
CREATE INDEX deleted_manifests_due ON deleted_manifests (keep_until);

-- gc.undo_window and its exceptions as the node's connections say them: [{"pattern": …, "ms": …}, …], the first pattern that fits counts. The function that needs them is also
-- called where another node's deletion is carried out, and by a version that does not know of them.
CREATE FUNCTION undo_window(p_repository_id bigint) RETURNS interval LANGUAGE sql STABLE AS $$
  SELECT COALESCE((
    SELECT (line ->> 'ms')::float8 * interval '1 millisecond'
    FROM repositories r, jsonb_array_elements(NULLIF(current_setting('ha_registry.undo_windows', true), '')::jsonb) WITH ORDINALITY AS lines (line, i)
    WHERE r.id = p_repository_id AND r.name ~ (line ->> 'pattern') ORDER BY i LIMIT 1
  ), interval '7 days')
$$;

-- Whether a link or a manifest may be collected is asked of its own row alone: so those of the manifest's blobs, of what it lists and of what refers to it say it here.
CREATE FUNCTION keep_deleted_manifest(p_repository_id bigint, p_digest bytea, p_sequence bigint, p_tags text[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE v_until timestamptz := clock_timestamp() + undo_window(p_repository_id);
BEGIN
  INSERT INTO deleted_manifests (repository_id, digest, sequence, tags, media_type, bytes, keep_until)
  SELECT repository_id, digest, p_sequence, p_tags, media_type, bytes, v_until FROM manifests WHERE repository_id = p_repository_id AND digest = p_digest
  ON CONFLICT (repository_id, digest) DO UPDATE SET sequence = EXCLUDED.sequence, tags = EXCLUDED.tags, media_type = EXCLUDED.media_type,
    deleted_at = EXCLUDED.deleted_at, keep_until = EXCLUDED.keep_until;

  PERFORM 1 FROM repository_blobs WHERE repository_id = p_repository_id AND due_at < v_until
    AND digest IN (SELECT digest FROM manifest_blobs WHERE repository_id = p_repository_id AND manifest = p_digest) ORDER BY digest FOR NO KEY UPDATE;
  UPDATE repository_blobs SET due_at = v_until WHERE repository_id = p_repository_id AND due_at < v_until
    AND digest IN (SELECT digest FROM manifest_blobs WHERE repository_id = p_repository_id AND manifest = p_digest);

  PERFORM 1 FROM manifests WHERE repository_id = p_repository_id AND due_at < v_until AND digest IN (
    SELECT digest FROM manifest_children WHERE repository_id = p_repository_id AND manifest = p_digest
    UNION SELECT digest FROM manifests WHERE repository_id = p_repository_id AND subject = p_digest) ORDER BY digest FOR NO KEY UPDATE;
  UPDATE manifests SET due_at = v_until WHERE repository_id = p_repository_id AND due_at < v_until AND digest IN (
    SELECT digest FROM manifest_children WHERE repository_id = p_repository_id AND manifest = p_digest
    UNION SELECT digest FROM manifests WHERE repository_id = p_repository_id AND subject = p_digest);
END $$;

-- As in 0006, and what is deleted is kept.
CREATE OR REPLACE FUNCTION commit_manifest_deletion(p_node uuid, p_sequence bigint, p_repository text, p_digest bytea, p_path text, p_tags text[], p_tags_prefix text,
                                                    p_superseded text[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE v_repository_id bigint; v_old bigint; v_tag text;
BEGIN
  PERFORM hold_node(p_node);
  PERFORM settle(p_sequence);
  SELECT id INTO STRICT v_repository_id FROM repositories WHERE name = p_repository;
  PERFORM lock_arrival(v_repository_id, p_digest, false);
  SELECT sequence INTO v_old FROM manifests WHERE repository_id = v_repository_id AND digest = p_digest FOR UPDATE;
  FOR v_tag IN SELECT tag FROM unnest(p_tags) tag ORDER BY tag COLLATE "C" LOOP PERFORM lock_tag(p_tags_prefix || v_tag || '/'); END LOOP;
  -- A tag that has come to the manifest since, or gone to another, was not in what this deletion said it would delete.
  PERFORM 1 FROM tags WHERE repository_id = v_repository_id AND digest = p_digest AND name <> ALL (p_tags) AND v_old < p_sequence;
  IF FOUND THEN RAISE EXCEPTION 'the manifest was tagged meanwhile' USING ERRCODE = 'HA001'; END IF;
  PERFORM 1 FROM tags WHERE repository_id = v_repository_id AND name = ANY (p_tags)
    AND (digest <> p_digest AND sequence < p_sequence OR digest = p_digest AND sequence > p_sequence AND v_old < p_sequence);
  IF FOUND THEN RAISE EXCEPTION 'a tag of the manifest was moved meanwhile' USING ERRCODE = 'HA001'; END IF;
  FOREACH v_tag IN ARRAY p_tags LOOP PERFORM delete_tag(v_repository_id, v_tag, p_tags_prefix || v_tag || '/', p_sequence); END LOOP;
  IF v_old > p_sequence THEN
    -- It was pushed again meanwhile, and that is the newer entry.
    PERFORM trash(ARRAY[entry_key(p_path || '%.deleted', p_sequence)], 'superseded');
    RETURN;
  END IF;
  PERFORM set_tombstone(p_path, v_repository_id, p_sequence);
  IF v_old IS NULL THEN RETURN; END IF;
  PERFORM keep_deleted_manifest(v_repository_id, p_digest, p_sequence, p_tags);
  WITH parents AS (
    DELETE FROM manifest_children WHERE repository_id = v_repository_id AND digest = p_digest RETURNING manifest
  ) INSERT INTO missing_references SELECT v_repository_id, manifest, p_digest, 'manifest' FROM parents WHERE manifest <> p_digest ON CONFLICT DO NOTHING;
  DELETE FROM manifests WHERE repository_id = v_repository_id AND digest = p_digest;
  PERFORM trash((SELECT array_agg(entry_key(template, v_old)) FROM unnest(p_superseded) template), 'deleted');
END $$;
