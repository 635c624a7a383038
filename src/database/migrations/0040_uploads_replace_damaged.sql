-- SPDX-FileCopyrightText: 2026 The ha-registry authors
-- SPDX-License-Identifier: EUPL-1.2

-- An upload of what is stored already gives its own bytes up only for data that are not damaged.

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
  IF p_session IS NOT NULL AND p_uuid <> p_own THEN
    -- The uploaded bytes go: those that are linked instead must not have been found damaged since the link was prepared, nor until it is committed.
    PERFORM 1 FROM blobs WHERE digest = p_digest AND uuid = p_uuid AND NOT damaged FOR SHARE;
    IF NOT FOUND THEN RAISE EXCEPTION 'stored data were found damaged meanwhile' USING ERRCODE = 'HA001'; END IF;
  END IF;
  WITH arrived AS (
    DELETE FROM missing_references WHERE repository_id = v_repository_id AND digest = p_digest AND kind = 'blob' RETURNING manifest
  ) INSERT INTO manifest_blobs SELECT v_repository_id, manifest, p_digest FROM arrived ON CONFLICT DO NOTHING;
  IF p_session IS NOT NULL THEN PERFORM end_session(p_session, p_revision, p_own <> p_uuid); END IF;
END $$;
