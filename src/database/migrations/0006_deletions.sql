-- SPDX-FileCopyrightText: 2026 The ha-registry authors
-- SPDX-License-Identifier: EUPL-1.2

-- Deletions: the steps of the write protocol (0002).
-- Each prepares by looking whether there is something to delete (a null sequence: there is not), and commits what is below its sequence.

CREATE FUNCTION prepare_tag_deletion(p_node uuid, p_repository text, p_tag text, p_template text) RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
  PERFORM hold_node(p_node);
  PERFORM 1 FROM tags t JOIN repositories r ON r.id = t.repository_id WHERE r.name = p_repository AND t.name = p_tag;
  IF NOT FOUND THEN RETURN NULL; END IF;
  RETURN intend(p_node, p_repository, ARRAY[p_template], jsonb_build_object('tag', p_tag));
END $$;

CREATE FUNCTION commit_tag_deletion(p_node uuid, p_sequence bigint, p_repository text, p_tag text, p_path text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE v_repository_id bigint;
BEGIN
  PERFORM hold_node(p_node);
  PERFORM settle(p_sequence);
  SELECT id INTO STRICT v_repository_id FROM repositories WHERE name = p_repository;
  PERFORM lock_tag(p_path);
  PERFORM delete_tag(v_repository_id, p_tag, p_path, p_sequence);
END $$;

CREATE FUNCTION delete_tag(p_repository_id bigint, p_tag text, p_path text, p_sequence bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  DELETE FROM tags WHERE repository_id = p_repository_id AND name = p_tag AND sequence < p_sequence;
  PERFORM set_tombstone(p_path, p_repository_id, p_sequence)
  WHERE NOT EXISTS (SELECT 1 FROM tags WHERE repository_id = p_repository_id AND name = p_tag);
  INSERT INTO tag_history (repository_id, name, sequence) VALUES (p_repository_id, p_tag, p_sequence);
END $$;

-- The manifest's deletion and that of every tag that points at it share a sequence. `tags` are those it names.
CREATE FUNCTION prepare_manifest_deletion(p_node uuid, p_repository text, p_digest bytea, p_manifest text, p_template text, p_tags_prefix text)
RETURNS TABLE (sequence bigint, tags text[], subject bytea) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE v_repository_id bigint; v_tags text[]; v_subject bytea;
BEGIN
  PERFORM hold_node(p_node);
  SELECT m.repository_id, m.subject INTO v_repository_id, v_subject FROM manifests m JOIN repositories r ON r.id = m.repository_id WHERE r.name = p_repository AND m.digest = p_digest;
  IF NOT FOUND THEN RETURN; END IF;
  SELECT COALESCE(array_agg(t.name ORDER BY t.name), '{}') INTO v_tags FROM tags t WHERE t.repository_id = v_repository_id AND t.digest = p_digest;
  RETURN QUERY SELECT intend(
    p_node, p_repository, ARRAY[p_template] || COALESCE((SELECT array_agg(p_tags_prefix || name || '/%.deleted') FROM unnest(v_tags) name), '{}'),
    jsonb_build_object('manifest', p_manifest, 'tags', v_tags)
  ), v_tags, v_subject;
END $$;

-- What it was listed in keeps naming it, as something that is missing.
CREATE FUNCTION commit_manifest_deletion(p_node uuid, p_sequence bigint, p_repository text, p_digest bytea, p_path text, p_tags text[], p_tags_prefix text,
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
  WITH parents AS (
    DELETE FROM manifest_children WHERE repository_id = v_repository_id AND digest = p_digest RETURNING manifest
  ) INSERT INTO missing_references SELECT v_repository_id, manifest, p_digest, 'manifest' FROM parents WHERE manifest <> p_digest ON CONFLICT DO NOTHING;
  DELETE FROM manifests WHERE repository_id = v_repository_id AND digest = p_digest;
  PERFORM trash((SELECT array_agg(entry_key(template, v_old)) FROM unnest(p_superseded) template), 'deleted');
END $$;

CREATE FUNCTION prepare_link_deletion(p_node uuid, p_repository text, p_digest bytea, p_blob text, p_template text) RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
  PERFORM hold_node(p_node);
  PERFORM 1 FROM repository_blobs rb JOIN repositories r ON r.id = rb.repository_id WHERE r.name = p_repository AND rb.digest = p_digest;
  IF NOT FOUND THEN RETURN NULL; END IF;
  RETURN intend(p_node, p_repository, ARRAY[p_template], jsonb_build_object('blob', p_blob));
END $$;

CREATE FUNCTION commit_link_deletion(p_node uuid, p_sequence bigint, p_repository text, p_digest bytea, p_path text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE v_repository_id bigint; v_old repository_blobs;
BEGIN
  PERFORM hold_node(p_node);
  PERFORM settle(p_sequence);
  SELECT id INTO STRICT v_repository_id FROM repositories WHERE name = p_repository;
  PERFORM lock_arrival(v_repository_id, p_digest, false);
  SELECT * INTO v_old FROM repository_blobs WHERE repository_id = v_repository_id AND digest = p_digest FOR UPDATE;
  IF v_old.sequence > p_sequence THEN
    PERFORM trash(ARRAY[entry_key(p_path || '%.deleted', p_sequence)], 'superseded');
    RETURN;
  END IF;
  PERFORM set_tombstone(p_path, v_repository_id, p_sequence);
  IF v_old IS NULL THEN RETURN; END IF;
  WITH referring AS (
    DELETE FROM manifest_blobs WHERE repository_id = v_repository_id AND digest = p_digest RETURNING manifest
  ) INSERT INTO missing_references SELECT v_repository_id, manifest, p_digest, 'blob' FROM referring ON CONFLICT DO NOTHING;
  DELETE FROM repository_blobs WHERE repository_id = v_repository_id AND digest = p_digest;
  PERFORM trash(ARRAY[entry_key(p_path || '%.' || v_old.uuid, v_old.sequence)], 'deleted');
END $$;
