-- SPDX-FileCopyrightText: 2026 The ha-registry authors
-- SPDX-License-Identifier: EUPL-1.2

-- The write protocol: one function per step, one round trip each. A VOLATILE function's statements each see what was committed before
-- them, so "lock, then look" is two statements here as it would be outside.
--
-- Errors (SQLSTATE): HA000 the node's row is gone · HA001 start again · HA002 another upload of this digest was committed first
-- · HA003 the session has another writer · HA004 references are missing (DETAIL lists them).

-- Every writing transaction holds its node's row: once the row is deleted, a node that was frozen cannot commit.
CREATE FUNCTION hold_node(p_node uuid) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM 1 FROM nodes WHERE id = p_node FOR KEY SHARE;
  IF NOT FOUND THEN RAISE EXCEPTION 'node % is not registered', p_node USING ERRCODE = 'HA000'; END IF;
END $$;

-- What was just pushed, mounted or promised stays for at least this long, referenced or not.
CREATE FUNCTION next_due() RETURNS timestamptz LANGUAGE sql STABLE AS $$ SELECT clock_timestamp() + interval '24 hours' $$;

CREATE FUNCTION entry_key(p_template text, p_sequence bigint) RETURNS text LANGUAGE sql IMMUTABLE AS $$
  SELECT replace(p_template, '%', lpad((9223372036854775807 - p_sequence)::text, 20, '0'))
$$;

-- As storage/keys.ts has it.
CREATE FUNCTION data_key(p_uuid uuid) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT 'data/' || right(p_uuid::text, 2) || '/' || p_uuid $$;

CREATE FUNCTION ensure_repository(p_name text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE v_id bigint;
BEGIN
  LOOP
    SELECT id INTO v_id FROM repositories WHERE name = p_name FOR KEY SHARE;
    IF FOUND THEN RETURN v_id; END IF;
    INSERT INTO repositories (name) VALUES (p_name) ON CONFLICT DO NOTHING;
  END LOOP;
END $$;

-- Does a pending write name one of these prefixes?
CREATE FUNCTION is_pending(p_repository text, p_prefixes text[]) RETURNS boolean LANGUAGE sql STABLE AS $$
  SELECT EXISTS (
    SELECT 1 FROM pending_writes p, unnest(p.templates) template
    WHERE p.repository = p_repository AND split_part(template, '%', 1) = ANY (p_prefixes)
  )
$$;

CREATE FUNCTION trash(p_keys text[], p_reason text) RETURNS void LANGUAGE sql AS $$
  INSERT INTO object_trash (key, reason) SELECT key, p_reason FROM unnest(p_keys) key ON CONFLICT DO NOTHING
$$;

-- Registers what is about to be written and draws its sequence.
CREATE FUNCTION intend(p_node uuid, p_repository text, p_templates text[], p_deletion jsonb) RETURNS bigint LANGUAGE sql AS $$
  INSERT INTO pending_writes (node, generation, repository, templates, deletion)
  SELECT p_node, generation, p_repository, p_templates, p_deletion FROM cluster RETURNING sequence
$$;

-- The commit's fence: exactly one row must go.
CREATE FUNCTION settle(p_sequence bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  DELETE FROM pending_writes WHERE sequence = p_sequence;
  IF NOT FOUND THEN RAISE EXCEPTION 'pending write % has expired', p_sequence USING ERRCODE = 'HA001'; END IF;
END $$;

-- A commit below a tombstone starts again with a newer sequence; one above it ends the tombstone, whose entry the newer one hides from now on.
-- (A tag's deletions stay: they are its history.)
CREATE FUNCTION pass_tombstone(p_path text, p_sequence bigint, p_trash boolean) RETURNS void LANGUAGE plpgsql AS $$
DECLARE v_sequence bigint;
BEGIN
  DELETE FROM tombstones WHERE path = p_path AND sequence < p_sequence RETURNING sequence INTO v_sequence;
  IF FOUND THEN
    IF p_trash THEN PERFORM trash(ARRAY[entry_key(p_path || '%.deleted', v_sequence)], 'superseded'); END IF;
    RETURN;
  END IF;
  PERFORM 1 FROM tombstones WHERE path = p_path;
  IF FOUND THEN RAISE EXCEPTION '% was deleted later than sequence %', p_path, p_sequence USING ERRCODE = 'HA001'; END IF;
END $$;

CREATE FUNCTION set_tombstone(p_path text, p_repository_id bigint, p_sequence bigint) RETURNS void LANGUAGE sql AS $$
  INSERT INTO tombstones (path, repository_id, sequence) VALUES (p_path, p_repository_id, p_sequence)
  ON CONFLICT (path) DO UPDATE SET sequence = GREATEST(tombstones.sequence, EXCLUDED.sequence)
$$;

-- Serialises the arrival of a digest in a repository with manifests that are being committed while they miss it: those share the digest's lock (await_arrivals), or,
-- where they may miss too many for a lock each, hold the repository's alone, which every arrival shares.
CREATE FUNCTION lock_arrival(p_repository_id bigint, p_digest bytea, p_alone boolean) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  IF p_alone THEN
    PERFORM pg_advisory_xact_lock(hashtextextended('repository', p_repository_id));
  ELSE
    PERFORM pg_advisory_xact_lock_shared(hashtextextended('repository', p_repository_id));
  END IF;
  PERFORM pg_advisory_xact_lock(hashtextextended(encode(p_digest, 'hex'), p_repository_id));
END $$;

CREATE FUNCTION await_arrivals(p_repository_id bigint, p_digests bytea[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE v_digest bytea;
BEGIN
  FOREACH v_digest IN ARRAY p_digests LOOP
    PERFORM pg_advisory_xact_lock_shared(hashtextextended(encode(v_digest, 'hex'), p_repository_id));
  END LOOP;
END $$;

-- Serialises everything that is committed on one tag. Taken after lock_arrival, in the order of the tags.
CREATE FUNCTION lock_tag(p_path text) RETURNS void LANGUAGE sql AS $$ SELECT pg_advisory_xact_lock(hashtextextended(p_path, 1)) $$;

-- Links -------------------------------------------------------------------------------------------------------------------------------

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

-- Upload sessions ---------------------------------------------------------------------------------------------------------------------

-- 'unknown', 'busy' (another writer holds the lease), 'order' (the upload does not stand at p_start) or 'acquired'. `abandoned`: the writer before did not let go,
-- so it may still be alive somewhere and writing.
CREATE FUNCTION acquire_session(p_node uuid, p_id uuid, p_repository text, p_start bigint, p_lease interval)
RETURNS TABLE (outcome text, data_uuid uuid, algorithm text, bytes_received bigint, hash_state bytea, tail bytea, revision bigint, abandoned boolean) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE v upload_sessions; v_outcome text := 'acquired';
BEGIN
  PERFORM hold_node(p_node);
  SELECT * INTO v FROM upload_sessions s WHERE s.id = p_id AND s.repository = p_repository FOR UPDATE;
  IF NOT FOUND THEN v_outcome := 'unknown';
  ELSIF v.lease_until > clock_timestamp() AND EXISTS (SELECT 1 FROM nodes n WHERE n.id = v.node) THEN v_outcome := 'busy';
  ELSIF p_start <> v.bytes_received THEN v_outcome := 'order';
  ELSE
    UPDATE upload_sessions s SET revision = s.revision + 1, node = p_node, lease_until = clock_timestamp() + p_lease, updated_at = now()
    WHERE s.id = p_id RETURNING s.revision INTO v.revision;
  END IF;
  RETURN QUERY SELECT v_outcome, v.data_uuid, v.algorithm, v.bytes_received, v.hash_state, v.tail, v.revision, v.node IS NOT NULL;
END $$;

-- Where the upload stands now; nulls only renew the lease. A null lease lets go of the session.
CREATE FUNCTION save_session(p_node uuid, p_id uuid, p_revision bigint, p_bytes_received bigint, p_hash_state bytea, p_tail bytea, p_lease interval)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM hold_node(p_node);
  UPDATE upload_sessions SET bytes_received = COALESCE(p_bytes_received, bytes_received), hash_state = COALESCE(p_hash_state, hash_state),
    tail = COALESCE(p_tail, tail), updated_at = now(),
    node = CASE WHEN p_lease IS NULL THEN NULL ELSE node END, lease_until = clock_timestamp() + p_lease
  WHERE id = p_id AND revision = p_revision;
  IF NOT FOUND THEN RAISE EXCEPTION 'upload session has another writer' USING ERRCODE = 'HA003'; END IF;
END $$;

-- Take-over: the data goes on in an object of the new writer's own, since the old writer may still write to its own.
CREATE FUNCTION move_session(p_node uuid, p_id uuid, p_revision bigint, p_data_uuid uuid) RETURNS void LANGUAGE plpgsql AS $$
DECLARE v_old uuid;
BEGIN
  PERFORM hold_node(p_node);
  SELECT data_uuid INTO v_old FROM upload_sessions WHERE id = p_id AND revision = p_revision FOR UPDATE;
  IF NOT FOUND THEN RAISE EXCEPTION 'upload session has another writer' USING ERRCODE = 'HA003'; END IF;
  UPDATE upload_sessions SET data_uuid = p_data_uuid WHERE id = p_id;
  DELETE FROM object_trash WHERE key = data_key(p_data_uuid);
  INSERT INTO object_trash (key, reason, repeat_at) VALUES (data_key(v_old), 'take-over', now() + interval '1 day') ON CONFLICT DO NOTHING;
END $$;

-- Registers the object that a take-over will copy to: in the trash, until move_session takes it from there.
CREATE FUNCTION reserve_data(p_data_uuid uuid) RETURNS void LANGUAGE sql AS $$
  INSERT INTO object_trash (key, reason, not_before) VALUES (data_key(p_data_uuid), 'take-over', now() + interval '1 hour')
$$;

-- Ends a session for whoever holds its revision, with its data into the trash when that is not used.
CREATE FUNCTION end_session(p_session uuid, p_revision bigint, p_trash boolean) RETURNS void LANGUAGE plpgsql AS $$
DECLARE v_data_uuid uuid;
BEGIN
  DELETE FROM upload_sessions WHERE id = p_session AND revision = p_revision RETURNING data_uuid INTO v_data_uuid;
  IF NOT FOUND THEN RAISE EXCEPTION 'upload session has another writer' USING ERRCODE = 'HA003'; END IF;
  IF p_trash THEN PERFORM trash(ARRAY[data_key(v_data_uuid)], 'upload'); END IF;
END $$;

-- Cancels a session whoever writes to it. That writer finds no row when it next saves, which is before its lease ends; a hung write of its may land later still.
CREATE FUNCTION cancel_session(p_node uuid, p_id uuid, p_repository text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE v upload_sessions;
BEGIN
  PERFORM hold_node(p_node);
  DELETE FROM upload_sessions WHERE id = p_id AND repository = p_repository RETURNING * INTO v;
  IF NOT FOUND THEN RETURN false; END IF;
  INSERT INTO object_trash (key, reason, not_before, repeat_at)
  VALUES (data_key(v.data_uuid), 'cancelled', COALESCE(v.lease_until, now()), now() + interval '1 day') ON CONFLICT DO NOTHING;
  RETURN true;
END $$;

CREATE FUNCTION expire_sessions(p_node uuid, p_age interval) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE v_count integer;
BEGIN
  PERFORM hold_node(p_node);
  WITH expired AS (
    DELETE FROM upload_sessions s WHERE s.id IN (
      SELECT id FROM upload_sessions WHERE updated_at < now() - p_age AND (lease_until IS NULL OR lease_until < clock_timestamp())
      ORDER BY id LIMIT 1000 FOR UPDATE SKIP LOCKED
    ) RETURNING data_uuid
  ) INSERT INTO object_trash (key, reason, repeat_at) SELECT data_key(data_uuid), 'expired', now() + interval '1 day' FROM expired ON CONFLICT DO NOTHING;
  GET DIAGNOSTICS v_count = ROW_COUNT;
  RETURN v_count;
END $$;

-- Manifests and tags --------------------------------------------------------------------------------------------------------------------

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

-- Deletions -----------------------------------------------------------------------------------------------------------------------------
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

-- Pending writes that end without a commit ------------------------------------------------------------------------------------------------

-- Takes the pending row away, which no commit can then pass, and hands its keys to the trash. False: it is gone already.
CREATE FUNCTION abandon(p_sequence bigint, p_reason text, p_repeat_at timestamptz) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE v_templates text[];
BEGIN
  DELETE FROM pending_writes WHERE sequence = p_sequence RETURNING templates INTO v_templates;
  IF NOT FOUND THEN RETURN false; END IF;
  INSERT INTO object_trash (key, reason, repeat_at) SELECT entry_key(template, p_sequence), p_reason, p_repeat_at FROM unnest(v_templates) template
  ON CONFLICT DO NOTHING;
  RETURN true;
END $$;

-- The same for a write of one's own. While the node's row is held nobody else takes its pending rows away, so false means: it was committed.
CREATE FUNCTION abandon_own(p_node uuid, p_sequence bigint, p_repeat_at timestamptz) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
  PERFORM hold_node(p_node);
  RETURN abandon(p_sequence, 'refused', p_repeat_at);
END $$;
