-- SPDX-FileCopyrightText: 2026 The ha-registry authors
-- SPDX-License-Identifier: EUPL-1.2

-- A walk over the store beside pushes, or beside another walk, may adopt an entry that was committed a moment ago. As in 0003, 0005, 0006 and 0012, and what is committed
-- twice under one sequence changes nothing: its own entry was taken for a superseded one, and trashed.

CREATE OR REPLACE FUNCTION commit_link(p_node uuid, p_sequence bigint, p_repository text, p_digest bytea, p_prefix text, p_uuid uuid, p_size bigint,
                            p_session uuid, p_revision bigint, p_own uuid) RETURNS void LANGUAGE plpgsql AS $$
DECLARE v_repository_id bigint; v_old repository_blobs;
BEGIN
  PERFORM hold_node(p_node);
  PERFORM settle(p_sequence);
  v_repository_id := ensure_repository(p_repository);
  PERFORM lock_arrival(v_repository_id, p_digest, false);
  PERFORM pass_tombstone(p_prefix, p_sequence, true);
  IF p_uuid = p_own THEN
    INSERT INTO blobs (digest, uuid, size) VALUES (p_digest, p_uuid, p_size) ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN RAISE EXCEPTION 'digest is already stored' USING ERRCODE = 'HA002'; END IF;
  END IF;
  INSERT INTO repository_blobs (repository_id, digest, uuid, sequence, due_at)
  VALUES (v_repository_id, p_digest, p_uuid, p_sequence, next_due()) ON CONFLICT DO NOTHING;
  IF NOT FOUND THEN
    SELECT * INTO v_old FROM repository_blobs WHERE repository_id = v_repository_id AND digest = p_digest FOR NO KEY UPDATE;
    IF NOT FOUND THEN RAISE EXCEPTION 'link changed meanwhile' USING ERRCODE = 'HA001'; END IF;
    IF v_old.sequence < p_sequence THEN
      UPDATE repository_blobs SET uuid = p_uuid, sequence = p_sequence, due_at = GREATEST(due_at, next_due())
      WHERE repository_id = v_repository_id AND digest = p_digest;
      PERFORM trash(ARRAY[entry_key(p_prefix || '%.' || v_old.uuid, v_old.sequence)], 'superseded');
    ELSIF v_old.sequence > p_sequence THEN
      PERFORM trash(ARRAY[entry_key(p_prefix || '%.' || p_uuid, p_sequence)], 'superseded');
    END IF;
  END IF;
  WITH arrived AS (
    DELETE FROM missing_references WHERE repository_id = v_repository_id AND digest = p_digest AND kind = 'blob' RETURNING manifest
  ) INSERT INTO manifest_blobs SELECT v_repository_id, manifest, p_digest FROM arrived ON CONFLICT DO NOTHING;
  IF p_session IS NOT NULL THEN PERFORM end_session(p_session, p_revision, p_own <> p_uuid); END IF;
END $$;

CREATE OR REPLACE FUNCTION commit_manifest(p_node uuid, p_sequence bigint, p_repository text, p_digest bytea, p_media_type text, p_bytes bytea,
                                p_subject bytea, p_artifact_type text, p_annotations jsonb, p_blobs bytea[], p_children bytea[],
                                p_allow_missing boolean, p_tags text[], p_path text, p_tags_prefix text, p_superseded text[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE v_repository_id bigint; v_missing bytea[]; v_tag text; v_old bigint;
  v_alone boolean := p_allow_missing AND cardinality(p_blobs) + cardinality(p_children) > 64;
BEGIN
  PERFORM hold_node(p_node);
  PERFORM settle(p_sequence);
  v_repository_id := ensure_repository(p_repository);
  PERFORM lock_arrival(v_repository_id, p_digest, v_alone);
  PERFORM pass_tombstone(p_path, p_sequence, true);

  -- Lock in the order of digests, then look.
  PERFORM 1 FROM repository_blobs WHERE repository_id = v_repository_id AND digest = ANY (p_blobs) ORDER BY digest FOR KEY SHARE;
  PERFORM 1 FROM manifests WHERE repository_id = v_repository_id AND digest = ANY (p_children) ORDER BY digest FOR KEY SHARE;
  v_missing := missing_of(v_repository_id, p_blobs, p_children);
  IF v_missing <> '{}' THEN
    IF NOT v_alone THEN PERFORM await_arrivals(v_repository_id, v_missing); END IF;
    v_missing := missing_of(v_repository_id, p_blobs, p_children);
    IF v_missing <> '{}' AND NOT p_allow_missing THEN
      RAISE EXCEPTION 'references are missing' USING ERRCODE = 'HA004', DETAIL = (SELECT string_agg(encode(d, 'hex'), ' ') FROM unnest(v_missing) d);
    END IF;
  END IF;

  INSERT INTO manifests (repository_id, digest, sequence, media_type, bytes, subject, artifact_type, annotations, due_at)
  VALUES (v_repository_id, p_digest, p_sequence, p_media_type, p_bytes, p_subject, p_artifact_type, p_annotations, next_due()) ON CONFLICT DO NOTHING;
  IF NOT FOUND THEN
    SELECT sequence INTO v_old FROM manifests WHERE repository_id = v_repository_id AND digest = p_digest FOR NO KEY UPDATE;
    IF NOT FOUND THEN RAISE EXCEPTION 'manifest changed meanwhile' USING ERRCODE = 'HA001'; END IF;
    UPDATE manifests SET sequence = GREATEST(v_old, p_sequence),
      media_type = CASE WHEN v_old < p_sequence THEN p_media_type ELSE media_type END, due_at = GREATEST(due_at, next_due())
    WHERE repository_id = v_repository_id AND digest = p_digest;
    IF v_old <> p_sequence THEN
      PERFORM trash((SELECT array_agg(entry_key(template, LEAST(v_old, p_sequence))) FROM unnest(p_superseded) template), 'superseded');
    END IF;
  END IF;

  INSERT INTO manifest_blobs SELECT v_repository_id, p_digest, d FROM unnest(p_blobs) d WHERE d <> ALL (v_missing) ON CONFLICT DO NOTHING;
  INSERT INTO manifest_children SELECT v_repository_id, p_digest, d FROM unnest(p_children) d WHERE d <> ALL (v_missing) ON CONFLICT DO NOTHING;
  IF v_missing <> '{}' THEN
    INSERT INTO missing_references SELECT v_repository_id, p_digest, d, 'blob' FROM unnest(p_blobs) d WHERE d = ANY (v_missing) ON CONFLICT DO NOTHING;
    INSERT INTO missing_references SELECT v_repository_id, p_digest, d, 'manifest' FROM unnest(p_children) d WHERE d = ANY (v_missing) ON CONFLICT DO NOTHING;
  END IF;
  WITH arrived AS (
    DELETE FROM missing_references WHERE repository_id = v_repository_id AND digest = p_digest AND kind = 'manifest' RETURNING manifest
  ) INSERT INTO manifest_children SELECT v_repository_id, manifest, p_digest FROM arrived ON CONFLICT DO NOTHING;

  FOR v_tag IN SELECT tag FROM unnest(p_tags) tag ORDER BY tag COLLATE "C" LOOP
    PERFORM lock_tag(p_tags_prefix || v_tag || '/');
    PERFORM pass_tombstone(p_tags_prefix || v_tag || '/', p_sequence, false);
    INSERT INTO tags (repository_id, name, digest, sequence) VALUES (v_repository_id, v_tag, p_digest, p_sequence)
    ON CONFLICT (repository_id, name) DO UPDATE SET digest = EXCLUDED.digest, sequence = EXCLUDED.sequence, updated_at = EXCLUDED.updated_at
    WHERE tags.sequence < EXCLUDED.sequence;
    INSERT INTO tag_history (repository_id, name, sequence, digest) VALUES (v_repository_id, v_tag, p_sequence, p_digest) ON CONFLICT DO NOTHING;
  END LOOP;
END $$;

CREATE OR REPLACE FUNCTION delete_tag(p_repository_id bigint, p_tag text, p_path text, p_sequence bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  DELETE FROM tags WHERE repository_id = p_repository_id AND name = p_tag AND sequence < p_sequence;
  PERFORM set_tombstone(p_path, p_repository_id, p_sequence)
  WHERE NOT EXISTS (SELECT 1 FROM tags WHERE repository_id = p_repository_id AND name = p_tag);
  INSERT INTO tag_history (repository_id, name, sequence) VALUES (p_repository_id, p_tag, p_sequence) ON CONFLICT DO NOTHING;
END $$;

-- What somebody has claimed to delete may be gone at any time, and never comes back.
CREATE OR REPLACE FUNCTION adopt_entry(p_node uuid, p_sequence bigint, p_repository text, p_templates text[]) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE v_keys text[] := ARRAY(SELECT entry_key(template, p_sequence) FROM unnest(p_templates) template);
BEGIN
  PERFORM hold_node(p_node);
  PERFORM 1 FROM pending_writes p, cluster c
  WHERE p.sequence = p_sequence AND p.generation >= c.generation AND EXISTS (SELECT 1 FROM nodes n WHERE n.id = p.node);
  IF FOUND THEN RETURN false; END IF;
  PERFORM 1 FROM object_trash WHERE key = ANY (v_keys) ORDER BY key FOR UPDATE;
  PERFORM 1 FROM object_trash WHERE key = ANY (v_keys) AND (reason IN ('refused', 'expired') OR claimed_at IS NOT NULL);
  IF FOUND THEN RETURN false; END IF;
  INSERT INTO pending_writes (sequence, node, generation, repository, templates)
  SELECT p_sequence, p_node, generation, p_repository, p_templates FROM cluster ON CONFLICT DO NOTHING;
  DELETE FROM object_trash WHERE key = ANY (v_keys);
  RETURN true;
END $$;

CREATE OR REPLACE FUNCTION keep_data(p_uuid uuid) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  DELETE FROM upload_sessions WHERE data_uuid = p_uuid;
  PERFORM 1 FROM object_trash WHERE key = data_key(p_uuid) FOR UPDATE;
  PERFORM 1 FROM object_trash WHERE key = data_key(p_uuid) AND claimed_at IS NOT NULL;
  IF FOUND THEN RAISE EXCEPTION 'the data % are being deleted', p_uuid USING ERRCODE = 'HA001'; END IF;
  DELETE FROM object_trash WHERE key = data_key(p_uuid);
END $$;

-- A tag whose newest entry was dropped points at the next one again, unless it was pushed or deleted since.
CREATE FUNCTION reset_tag(p_node uuid, p_repository text, p_tag text, p_path text, p_digest bytea, p_sequence bigint, p_at timestamptz) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM hold_node(p_node);
  PERFORM lock_tag(p_path);
  INSERT INTO tags (repository_id, name, digest, sequence, updated_at)
  SELECT r.id, p_tag, m.digest, p_sequence, COALESCE(p_at, now()) FROM repositories r JOIN manifests m ON m.repository_id = r.id AND m.digest = p_digest
  WHERE r.name = p_repository AND NOT EXISTS (SELECT 1 FROM tombstones WHERE path = p_path AND sequence > p_sequence)
  ON CONFLICT DO NOTHING;
END $$;
