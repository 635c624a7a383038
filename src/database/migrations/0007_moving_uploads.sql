-- SPDX-FileCopyrightText: 2026 The ha-registry authors
-- SPDX-License-Identifier: EUPL-1.2

-- Uploads that go on at another node, on stores whose data objects are made of numbered parts. What 0004 has serves nodes of the version before, which know no such
-- store: for them these columns have no value.

ALTER TABLE upload_sessions
  -- What the store returned when the data object was begun; null as long as it was not, or where there is nothing to know.
  ADD COLUMN begun text,
  -- Every number below may have been used by somebody and is not used again.
  ADD COLUMN next_part integer NOT NULL DEFAULT 1,
  -- A tail that is too large for the row: an object of its own.
  ADD COLUMN tail_key text COLLATE "C",
  ADD COLUMN tail_bytes bigint NOT NULL DEFAULT 0,
  -- The parts are all there will be: whoever comes next may only complete the object with them.
  ADD COLUMN sealed boolean NOT NULL DEFAULT false;

CREATE TABLE upload_parts (
  session uuid NOT NULL REFERENCES upload_sessions ON DELETE CASCADE,
  number integer NOT NULL,
  bytes bigint NOT NULL,
  etag text NOT NULL,
  PRIMARY KEY (session, number)
);

-- Data objects that were begun and that nobody finishes. A row goes when the store has dropped the object's parts.
CREATE TABLE upload_aborts (
  key text COLLATE "C" NOT NULL,
  begun text NOT NULL,
  not_before timestamptz NOT NULL DEFAULT now(),
  -- A part that was under way may be stored after the first time.
  repeat_at timestamptz,
  PRIMARY KEY (key, begun)
);
CREATE INDEX upload_aborts_due ON upload_aborts (not_before);

-- Hands over to the trash whatever a session that is gone had in the store.
CREATE FUNCTION trash_upload(v upload_sessions, p_reason text, p_not_before timestamptz, p_repeat_at timestamptz) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  IF v.begun IS NOT NULL THEN
    INSERT INTO upload_aborts (key, begun, not_before, repeat_at) VALUES (data_key(v.data_uuid), v.begun, p_not_before, p_repeat_at) ON CONFLICT DO NOTHING;
  END IF;
  INSERT INTO object_trash (key, reason, not_before, repeat_at) VALUES (data_key(v.data_uuid), p_reason, p_not_before, p_repeat_at) ON CONFLICT DO NOTHING;
  IF v.tail_key IS NOT NULL THEN
    INSERT INTO object_trash (key, reason, not_before, repeat_at) VALUES (v.tail_key, p_reason, p_not_before, p_repeat_at) ON CONFLICT DO NOTHING;
  END IF;
END $$;

-- Whether the writer that has a session's lease may be writing. That it may not is no promise: a revision keeps it from doing harm.
CREATE FUNCTION writer_lives(p_node uuid, p_lease_until timestamptz) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
  RETURN p_lease_until > clock_timestamp() AND EXISTS (SELECT 1 FROM nodes WHERE id = p_node);
END $$;

-- 'unknown', 'busy' (another writer has the lease), 'order' (the upload does not stand at p_start) or 'acquired'. `abandoned`: the writer before did not let go, so it
-- may still be alive somewhere and writing.
CREATE FUNCTION acquire_upload(p_node uuid, p_id uuid, p_repository text, p_start bigint, p_lease interval)
RETURNS TABLE (outcome text, abandoned boolean, data_uuid uuid, algorithm text, bytes_received bigint, hash_state bytea, tail bytea, tail_key text, tail_bytes bigint,
  begun text, next_part integer, sealed boolean, revision bigint) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE v upload_sessions; v_outcome text; v_abandoned boolean;
BEGIN
  PERFORM hold_node(p_node);
  SELECT * INTO v FROM upload_sessions s WHERE s.id = p_id AND s.repository = p_repository FOR UPDATE;
  v_outcome := CASE WHEN NOT FOUND THEN 'unknown' WHEN writer_lives(v.node, v.lease_until) THEN 'busy' WHEN p_start <> v.bytes_received THEN 'order' ELSE 'acquired' END;
  v_abandoned := v.node IS NOT NULL;
  IF v_outcome = 'acquired' THEN
    UPDATE upload_sessions s SET revision = s.revision + 1, node = p_node, lease_until = clock_timestamp() + p_lease, updated_at = now()
    WHERE s.id = p_id RETURNING s.* INTO v;
  END IF;
  RETURN QUERY SELECT v_outcome, v_abandoned, v.data_uuid, v.algorithm, v.bytes_received, v.hash_state, v.tail, v.tail_key, v.tail_bytes,
    v.begun, v.next_part, v.sealed, v.revision;
END $$;

-- Where an upload stands. One whose writer is gone is taken from it for good, so that what is told stays true until somebody goes on.
CREATE FUNCTION find_upload_bytes(p_node uuid, p_id uuid, p_repository text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE v upload_sessions;
BEGIN
  SELECT * INTO v FROM upload_sessions WHERE id = p_id AND repository = p_repository;
  IF v.lease_until IS NULL OR writer_lives(v.node, v.lease_until) THEN RETURN v.bytes_received; END IF;
  PERFORM hold_node(p_node);
  UPDATE upload_sessions SET revision = revision + 1, lease_until = NULL WHERE id = p_id AND revision = v.revision AND lease_until = v.lease_until
  RETURNING bytes_received INTO v.bytes_received;
  -- Somebody was faster: what the row says now is as good.
  IF NOT FOUND THEN SELECT bytes_received INTO v.bytes_received FROM upload_sessions WHERE id = p_id; END IF;
  RETURN v.bytes_received;
END $$;

-- Locks a session for whoever holds its revision.
CREATE FUNCTION hold_session(p_node uuid, p_id uuid, p_revision bigint) RETURNS upload_sessions LANGUAGE plpgsql AS $$
DECLARE v upload_sessions;
BEGIN
  PERFORM hold_node(p_node);
  SELECT * INTO v FROM upload_sessions WHERE id = p_id AND revision = p_revision FOR UPDATE;
  IF NOT FOUND THEN RAISE EXCEPTION 'upload session has another writer' USING ERRCODE = 'HA003'; END IF;
  RETURN v;
END $$;

-- Takes an object that was registered before it was written out of the trash. It fails when the trash may have deleted it meanwhile.
CREATE FUNCTION claim_reserved(p_key text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  DELETE FROM object_trash WHERE key = p_key AND not_before > clock_timestamp();
  IF NOT FOUND THEN RAISE EXCEPTION 'the reservation of % has expired', p_key USING ERRCODE = 'HA003'; END IF;
END $$;

-- Registers an object that a later statement will name; left alone it is deleted, and again a day later, since a write that hangs may land after that.
CREATE FUNCTION reserve_object(p_key text, p_reason text) RETURNS void LANGUAGE sql AS $$
  INSERT INTO object_trash (key, reason, not_before, repeat_at) VALUES (p_key, p_reason, now() + interval '1 hour', now() + interval '1 day')
$$;

-- Reserves the part numbers below p_next for this revision, and names what the store calls the data object that they belong to.
CREATE FUNCTION reserve_parts(p_node uuid, p_id uuid, p_revision bigint, p_begun text, p_next integer, p_lease interval) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM hold_session(p_node, p_id, p_revision);
  UPDATE upload_sessions SET begun = p_begun, next_part = GREATEST(next_part, p_next), lease_until = clock_timestamp() + p_lease, updated_at = now() WHERE id = p_id;
END $$;

-- Where the upload stands now. Nulls leave that as it is and only renew the lease; a null lease lets go of the session. Numbers from p_next on were not used.
CREATE FUNCTION save_upload(p_node uuid, p_id uuid, p_revision bigint, p_bytes_received bigint, p_hash_state bytea, p_tail bytea, p_tail_key text, p_tail_bytes bigint,
  p_next integer, p_numbers integer[], p_bytes bigint[], p_etags text[], p_lease interval) RETURNS void LANGUAGE plpgsql AS $$
DECLARE v upload_sessions;
BEGIN
  v := hold_session(p_node, p_id, p_revision);
  IF p_bytes_received IS NOT NULL AND p_tail_key IS DISTINCT FROM v.tail_key THEN
    IF p_tail_key IS NOT NULL THEN PERFORM claim_reserved(p_tail_key); END IF;
    IF v.tail_key IS NOT NULL THEN PERFORM trash(ARRAY[v.tail_key], 'superseded'); END IF;
  END IF;
  INSERT INTO upload_parts (session, number, bytes, etag) SELECT p_id, number, bytes, etag FROM unnest(p_numbers, p_bytes, p_etags) AS part(number, bytes, etag)
  ON CONFLICT DO NOTHING;
  UPDATE upload_sessions SET bytes_received = COALESCE(p_bytes_received, bytes_received), hash_state = COALESCE(p_hash_state, hash_state),
    tail = COALESCE(p_tail, tail),
    tail_key = CASE WHEN p_bytes_received IS NULL THEN tail_key ELSE p_tail_key END,
    tail_bytes = CASE WHEN p_bytes_received IS NULL THEN tail_bytes ELSE p_tail_bytes END,
    next_part = CASE WHEN p_lease IS NULL THEN COALESCE(p_next, next_part) ELSE GREATEST(next_part, p_next) END, updated_at = now(),
    -- A sealed session keeps its writer: to a node of the version before it looks abandoned, which goes on with a copy.
    node = CASE WHEN p_lease IS NULL AND NOT sealed THEN NULL ELSE node END, lease_until = clock_timestamp() + p_lease
  WHERE id = p_id;
END $$;

-- Lets go of a session before anything was done with it: the writer before us counts as before.
CREATE FUNCTION give_back_upload(p_id uuid, p_revision bigint) RETURNS void LANGUAGE sql AS $$
  UPDATE upload_sessions SET lease_until = NULL WHERE id = p_id AND revision = p_revision
$$;

-- The parts that make up the data object, for good.
CREATE FUNCTION seal_upload(p_node uuid, p_id uuid, p_revision bigint, p_bytes_received bigint, p_hash_state bytea, p_next integer, p_numbers integer[], p_bytes bigint[],
  p_etags text[], p_lease interval) RETURNS TABLE (number integer, bytes bigint, etag text) LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
  PERFORM save_upload(p_node, p_id, p_revision, p_bytes_received, p_hash_state, ''::bytea, NULL, 0, p_next, p_numbers, p_bytes, p_etags, p_lease);
  UPDATE upload_sessions s SET sealed = true WHERE s.id = p_id;
  RETURN QUERY SELECT p.number, p.bytes, p.etag FROM upload_parts p WHERE p.session = p_id ORDER BY p.number;
END $$;

-- After a commit that failed: entries may name the data, so they must not change any more. Data that were put whole get another uuid; the commit, should it still be
-- on its way, finds another revision.
CREATE FUNCTION renew_upload(p_node uuid, p_id uuid, p_revision bigint, p_data_uuid uuid) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE v upload_sessions;
BEGIN
  v := hold_session(p_node, p_id, p_revision);
  IF p_data_uuid IS NULL THEN
    UPDATE upload_sessions SET revision = revision + 1, sealed = true WHERE id = p_id;
  ELSE
    UPDATE upload_sessions SET revision = revision + 1, data_uuid = p_data_uuid WHERE id = p_id;
    INSERT INTO object_trash (key, reason, repeat_at) VALUES (data_key(v.data_uuid), 'refused', now() + interval '1 day') ON CONFLICT DO NOTHING;
  END IF;
  RETURN p_revision + 1;
END $$;


-- What 0004 has, with all that a session may have in the store now.

CREATE OR REPLACE FUNCTION move_session(p_node uuid, p_id uuid, p_revision bigint, p_data_uuid uuid) RETURNS void LANGUAGE plpgsql AS $$
DECLARE v upload_sessions;
BEGIN
  v := hold_session(p_node, p_id, p_revision);
  UPDATE upload_sessions SET data_uuid = p_data_uuid, sealed = false WHERE id = p_id;
  PERFORM claim_reserved(data_key(p_data_uuid));
  INSERT INTO object_trash (key, reason, repeat_at) VALUES (data_key(v.data_uuid), 'take-over', now() + interval '1 day') ON CONFLICT DO NOTHING;
END $$;

CREATE OR REPLACE FUNCTION end_session(p_session uuid, p_revision bigint, p_trash boolean) RETURNS void LANGUAGE plpgsql AS $$
DECLARE v upload_sessions;
BEGIN
  DELETE FROM upload_sessions WHERE id = p_session AND revision = p_revision RETURNING * INTO v;
  IF NOT FOUND THEN RAISE EXCEPTION 'upload session has another writer' USING ERRCODE = 'HA003'; END IF;
  IF p_trash THEN
    PERFORM trash_upload(v, 'upload', now(), CASE WHEN v.begun IS NOT NULL THEN now() + interval '1 day' END);
  ELSIF v.tail_key IS NOT NULL THEN
    PERFORM trash(ARRAY[v.tail_key], 'upload');
  END IF;
END $$;

CREATE OR REPLACE FUNCTION cancel_session(p_node uuid, p_id uuid, p_repository text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE v upload_sessions;
BEGIN
  PERFORM hold_node(p_node);
  DELETE FROM upload_sessions WHERE id = p_id AND repository = p_repository RETURNING * INTO v;
  IF NOT FOUND THEN RETURN false; END IF;
  PERFORM trash_upload(v, 'cancelled', COALESCE(v.lease_until, now()), now() + interval '1 day');
  RETURN true;
END $$;

CREATE OR REPLACE FUNCTION expire_sessions(p_node uuid, p_age interval) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE v upload_sessions; v_count integer := 0;
BEGIN
  PERFORM hold_node(p_node);
  FOR v IN
    DELETE FROM upload_sessions s WHERE s.id IN (
      SELECT id FROM upload_sessions WHERE updated_at < now() - p_age AND (lease_until IS NULL OR lease_until < clock_timestamp())
      ORDER BY id LIMIT 1000 FOR UPDATE SKIP LOCKED
    ) RETURNING s.*
  LOOP
    PERFORM trash_upload(v, 'expired', now(), now() + interval '1 day');
    v_count := v_count + 1;
  END LOOP;
  RETURN v_count;
END $$;
