-- SPDX-FileCopyrightText: 2026 The ha-registry authors
-- SPDX-License-Identifier: EUPL-1.2

-- Links of repositories to blobs: the steps of the write protocol (0002).

-- 'linked': nothing to write, the link's time has been moved on. 'write': write the link under `sequence` to `uuid`. 'unknown': no source.
-- p_template has '@' for the uuid. p_own is the caller's uploaded data, null for a mount, which takes its data from a repository of p_from
-- (null: from any).
CREATE FUNCTION prepare_link(p_node uuid, p_repository text, p_digest bytea, p_template text, p_own uuid, p_from text[])
RETURNS TABLE (outcome text, sequence bigint, uuid uuid, size bigint) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE v_repository_id bigint; v_uuid uuid; v_size bigint; v_sequence bigint;
BEGIN
  PERFORM hold_node(p_node);
  SELECT id INTO v_repository_id FROM repositories WHERE name = p_repository;
  IF NOT is_pending(p_repository, ARRAY[split_part(p_template, '%', 1)]) THEN
    UPDATE repository_blobs rb SET due_at = GREATEST(rb.due_at, next_due()) FROM blobs b
    WHERE rb.repository_id = v_repository_id AND rb.digest = p_digest
      AND b.digest = rb.digest AND b.uuid = rb.uuid AND NOT b.damaged
    RETURNING b.uuid, b.size INTO v_uuid, v_size;
    IF FOUND THEN RETURN QUERY SELECT 'linked', NULL::bigint, v_uuid, v_size; RETURN; END IF;
  END IF;
  IF p_own IS NULL THEN
    SELECT b.uuid, b.size INTO v_uuid, v_size FROM repository_blobs rb JOIN blobs b USING (digest, uuid) JOIN repositories r ON r.id = rb.repository_id
    WHERE rb.digest = p_digest AND NOT b.damaged AND (p_from IS NULL OR r.name = ANY (p_from)) LIMIT 1;
    IF NOT FOUND THEN RETURN QUERY SELECT 'unknown', NULL::bigint, NULL::uuid, NULL::bigint; RETURN; END IF;
  ELSE
    SELECT b.uuid, b.size INTO v_uuid, v_size FROM blobs b WHERE b.digest = p_digest AND NOT b.damaged;
    v_uuid := COALESCE(v_uuid, p_own);
  END IF;
  v_sequence := intend(p_node, p_repository, ARRAY[replace(p_template, '@', v_uuid::text)], NULL);
  RETURN QUERY SELECT 'write', v_sequence, v_uuid, v_size;
END $$;

-- p_own is the session's data uuid; when the link goes to other data, the session's own is trashed here.
CREATE FUNCTION commit_link(p_node uuid, p_sequence bigint, p_repository text, p_digest bytea, p_prefix text, p_uuid uuid, p_size bigint,
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
    ELSE
      PERFORM trash(ARRAY[entry_key(p_prefix || '%.' || p_uuid, p_sequence)], 'superseded');
    END IF;
  END IF;
  WITH arrived AS (
    DELETE FROM missing_references WHERE repository_id = v_repository_id AND digest = p_digest AND kind = 'blob' RETURNING manifest
  ) INSERT INTO manifest_blobs SELECT v_repository_id, manifest, p_digest FROM arrived ON CONFLICT DO NOTHING;
  IF p_session IS NOT NULL THEN PERFORM end_session(p_session, p_revision, p_own <> p_uuid); END IF;
END $$;
