-- SPDX-FileCopyrightText: 2026 The ha-registry authors
-- SPDX-License-Identifier: EUPL-1.2

-- As in 0008, and as adopt_entry does since 0035: what somebody has claimed to delete may be gone at any time, and does not come back with a write that is given back.
CREATE OR REPLACE FUNCTION adopt_write(p_node uuid, p_sequence bigint, p_repository text, p_templates text[], p_data uuid[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE v_keys text[] := ARRAY(SELECT entry_key(template, p_sequence) FROM unnest(p_templates) template) || ARRAY(SELECT data_key(data) FROM unnest(p_data) data);
BEGIN
  PERFORM hold_node(p_node);
  PERFORM 1 FROM object_trash WHERE key = ANY (v_keys) ORDER BY key FOR UPDATE;
  PERFORM 1 FROM object_trash WHERE key = ANY (v_keys) AND claimed_at IS NOT NULL;
  IF FOUND THEN RAISE EXCEPTION 'objects of the write % are being deleted', p_sequence USING ERRCODE = 'HA001'; END IF;
  DELETE FROM object_trash WHERE key = ANY (v_keys);
  DELETE FROM upload_sessions WHERE data_uuid = ANY (p_data);
  INSERT INTO pending_writes (sequence, node, generation, repository, templates)
  SELECT p_sequence, p_node, generation, p_repository, p_templates FROM cluster
  ON CONFLICT (sequence) DO UPDATE SET node = EXCLUDED.node, generation = EXCLUDED.generation, templates = EXCLUDED.templates, repository = EXCLUDED.repository,
    deletion = NULL, outcome_unknown = false;
  PERFORM ensure_repository(p_repository);
END $$;
