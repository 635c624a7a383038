-- SPDX-FileCopyrightText: 2026 The ha-registry authors
-- SPDX-License-Identifier: EUPL-1.2

-- Upload sessions: leases, checkpoints, take-over, end.

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
