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


-- Writes that end without a commit.

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
