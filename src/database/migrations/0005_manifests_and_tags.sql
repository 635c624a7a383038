-- SPDX-FileCopyrightText: 2026 The ha-registry authors
-- SPDX-License-Identifier: EUPL-1.2

-- Manifests and tags: the steps of the write protocol (0002).

-- 'unchanged': manifest and tags are already so. 'write': write under `sequence`. Missing references are told with either kind of outcome
-- 'missing', where they are not allowed, and nothing is registered then.
CREATE FUNCTION prepare_manifest(p_node uuid, p_repository text, p_digest bytea, p_tags text[], p_blobs bytea[], p_children bytea[],
                                 p_allow_missing boolean, p_templates text[], p_media_type text)
RETURNS TABLE (outcome text, sequence bigint, missing bytea[]) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE v_repository_id bigint; v_missing bytea[]; v_sequence bigint;
BEGIN
  PERFORM hold_node(p_node);
  SELECT id INTO v_repository_id FROM repositories WHERE name = p_repository;
  v_missing := missing_of(v_repository_id, p_blobs, p_children);
  IF v_missing <> '{}' AND NOT p_allow_missing THEN
    RETURN QUERY SELECT 'missing', NULL::bigint, v_missing; RETURN;
  END IF;
  IF v_repository_id IS NOT NULL
    AND (SELECT count(*) FROM tags t WHERE t.repository_id = v_repository_id AND t.digest = p_digest AND t.name = ANY (p_tags)) = cardinality(p_tags)
    AND NOT is_pending(p_repository, (SELECT array_agg(split_part(template, '%', 1)) FROM unnest(p_templates) template))
  THEN
    UPDATE manifests m SET due_at = GREATEST(m.due_at, next_due())
    WHERE m.repository_id = v_repository_id AND m.digest = p_digest AND m.media_type = p_media_type;
    IF FOUND THEN RETURN QUERY SELECT 'unchanged', NULL::bigint, v_missing; RETURN; END IF;
  END IF;
  v_sequence := intend(p_node, p_repository, p_templates, NULL);
  RETURN QUERY SELECT 'write', v_sequence, v_missing;
END $$;

CREATE FUNCTION missing_of(p_repository_id bigint, p_blobs bytea[], p_children bytea[]) RETURNS bytea[] LANGUAGE sql STABLE AS $$
  SELECT COALESCE(array_agg(digest ORDER BY digest), '{}') FROM (
    SELECT digest FROM unnest(p_blobs) digest
    WHERE NOT EXISTS (SELECT 1 FROM repository_blobs rb WHERE rb.repository_id = p_repository_id AND rb.digest = digest.digest)
    UNION ALL
    SELECT digest FROM unnest(p_children) digest
    WHERE NOT EXISTS (SELECT 1 FROM manifests m WHERE m.repository_id = p_repository_id AND m.digest = digest.digest)
  ) missing
$$;

-- p_path is the manifest's prefix, p_tags_prefix what stands before a tag.
CREATE FUNCTION commit_manifest(p_node uuid, p_sequence bigint, p_repository text, p_digest bytea, p_media_type text, p_bytes bytea,
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
    PERFORM trash((SELECT array_agg(entry_key(template, LEAST(v_old, p_sequence))) FROM unnest(p_superseded) template), 'superseded');
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
    INSERT INTO tag_history (repository_id, name, sequence, digest) VALUES (v_repository_id, v_tag, p_sequence, p_digest);
  END LOOP;
END $$;
