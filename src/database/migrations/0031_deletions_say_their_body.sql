-- SPDX-FileCopyrightText: 2026 The ha-registry authors
-- SPDX-License-Identifier: EUPL-1.2

-- As in 0006, and the intent keeps the bytes of the entries: whoever carries the deletion out for its writer writes the same ones, since a key never has two contents.

CREATE FUNCTION prepare_tag_deletion(p_node uuid, p_repository text, p_tag text, p_template text, p_body text) RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
  PERFORM hold_node(p_node);
  PERFORM 1 FROM tags t JOIN repositories r ON r.id = t.repository_id WHERE r.name = p_repository AND t.name = p_tag;
  IF NOT FOUND THEN RETURN NULL; END IF;
  RETURN intend(p_node, p_repository, ARRAY[p_template], jsonb_build_object('tag', p_tag, 'body', p_body));
END $$;

CREATE FUNCTION prepare_manifest_deletion(p_node uuid, p_repository text, p_digest bytea, p_manifest text, p_template text, p_tags_prefix text, p_body text)
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
    jsonb_build_object('manifest', p_manifest, 'tags', v_tags, 'body', p_body)
  ), v_tags, v_subject;
END $$;
