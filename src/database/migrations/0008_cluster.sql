-- SPDX-FileCopyrightText: 2026 The ha-registry authors
-- SPDX-License-Identifier: EUPL-1.2

-- Several nodes, and a database that goes back in time (failover, a restored dump).

-- What a node speaks. 2: while it lives it holds an advisory lock (node_lock), and there is a mark of it in its store.
ALTER TABLE nodes
  ADD COLUMN protocol integer NOT NULL DEFAULT 1,
  ADD COLUMN gc_protocol integer NOT NULL DEFAULT 0,
  -- The generation for which the node has verified the writes that it remembers; null where it does not do that.
  ADD COLUMN generation bigint,
  -- Where its store is, for people.
  ADD COLUMN store text;

ALTER TABLE cluster
  -- The store's own id, as in its owner marker; null until a store was claimed.
  ADD COLUMN store_id uuid,
  -- The newest sequence that was recorded in the store.
  ADD COLUMN high_water bigint NOT NULL DEFAULT 0,
  -- Not null: the store may hold more than this database since that generation began, and has to be walked. Nothing is collected until then.
  ADD COLUMN catch_up_due bigint,
  ADD COLUMN caught_up_at timestamptz;

-- Two-key advisory locks: (4872101, 0) is the leader's, (4872102, hash of the id) a node's.
CREATE FUNCTION holds_node_lock(p_node uuid) RETURNS boolean LANGUAGE sql AS $$
  SELECT EXISTS (
    SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 2 AND classid = 4872102
      AND objid = (hashtext(p_node::text)::bigint & 4294967295)::oid AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
  )
$$;

-- Is the node to be waited for? Its lock goes with its process at once, and within 10 s when it is frozen or cut off; a heartbeat tells more slowly.
CREATE FUNCTION node_lives(p_node uuid) RETURNS boolean LANGUAGE sql AS $$
  SELECT EXISTS (
    SELECT 1 FROM nodes WHERE id = p_node AND heartbeat_at > clock_timestamp() - interval '60 seconds'
      AND (protocol < 2 OR heartbeat_at > clock_timestamp() - interval '8 seconds' OR holds_node_lock(p_node))
  )
$$;

-- Declares dead who does not live. Rows that a transaction of their node holds wait for the next time.
CREATE FUNCTION delete_dead_nodes() RETURNS SETOF uuid LANGUAGE sql AS $$
  DELETE FROM nodes WHERE id IN (SELECT id FROM nodes WHERE NOT node_lives(id) ORDER BY id FOR UPDATE SKIP LOCKED) RETURNING id
$$;

-- A node's sign of life, on the connection that holds its locks. `known` false: it was declared dead and must come back under a new id.
CREATE FUNCTION beat(p_node uuid, p_leads boolean) RETURNS TABLE (known boolean, leads boolean, died uuid[]) LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
  UPDATE nodes SET heartbeat_at = clock_timestamp() WHERE id = p_node;
  known := FOUND;
  -- Session locks are counted: who leads already must not take the lock again.
  leads := p_leads OR pg_try_advisory_lock(4872101, 0);
  died := ARRAY(SELECT delete_dead_nodes());
  RETURN NEXT;
END $$;

-- Sequences begin above p_past from now on. The lock keeps two callers from setting each other back.
CREATE FUNCTION jump_sequence(p_past bigint) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE v_last bigint;
BEGIN
  PERFORM pg_advisory_xact_lock(4872101, 1);
  SELECT last_value - CASE WHEN is_called THEN 0 ELSE 1 END INTO v_last FROM entry_sequence;
  IF v_last < p_past THEN PERFORM setval('entry_sequence', p_past); END IF;
  RETURN GREATEST(v_last, p_past);
END $$;

-- Read before the UPDATE, whose commit makes it durable: what is recorded in the store never runs ahead of the database.
CREATE FUNCTION record_high_water() RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE v_last bigint;
BEGIN
  SELECT last_value - CASE WHEN is_called THEN 0 ELSE 1 END INTO v_last FROM entry_sequence;
  UPDATE cluster SET high_water = v_last WHERE high_water < v_last;
  RETURN v_last;
END $$;

-- False: somebody else has begun one meanwhile.
CREATE FUNCTION begin_generation(p_from bigint) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
  UPDATE cluster SET generation = p_from + 1, catch_up_due = COALESCE(catch_up_due, p_from + 1), caught_up_at = NULL WHERE generation = p_from;
  RETURN FOUND;
END $$;

-- Which of these entries does the database not know, neither them nor newer ones? Positions, from 1. A column per property, p_digests null for tags, p_tags null for others.
CREATE FUNCTION unknown_entries(p_repositories text[], p_prefixes text[], p_digests bytea[], p_tags text[], p_manifest boolean[], p_sequences bigint[])
RETURNS SETOF integer LANGUAGE sql AS $$
  SELECT e.i::int FROM unnest(p_repositories, p_prefixes, p_digests, p_tags, p_manifest, p_sequences) WITH ORDINALITY AS e(name, prefix, digest, tag, manifest, sequence, i)
  LEFT JOIN LATERAL (SELECT id FROM repositories WHERE name = e.name OFFSET 0) r ON true
  WHERE NOT EXISTS (SELECT 1 FROM tombstones t WHERE t.path = e.prefix AND t.sequence >= e.sequence)
    AND NOT EXISTS (SELECT 1 FROM repository_blobs rb WHERE NOT e.manifest AND rb.repository_id = r.id AND rb.digest = e.digest AND rb.sequence >= e.sequence)
    AND NOT EXISTS (SELECT 1 FROM manifests m WHERE e.manifest AND m.repository_id = r.id AND m.digest = e.digest AND m.sequence >= e.sequence)
    AND NOT EXISTS (SELECT 1 FROM tag_history h WHERE h.repository_id = r.id AND h.name = e.tag AND h.sequence = e.sequence)
  ORDER BY e.i
$$;

-- Makes a write that the store holds and the database lost pending again, in the name of a living node, so that its commit can be repeated. Nothing may delete its objects.
CREATE FUNCTION adopt_write(p_node uuid, p_sequence bigint, p_repository text, p_templates text[], p_data uuid[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM hold_node(p_node);
  DELETE FROM object_trash WHERE key = ANY (ARRAY(SELECT entry_key(template, p_sequence) FROM unnest(p_templates) template)
                                            || ARRAY(SELECT data_key(data) FROM unnest(p_data) data));
  DELETE FROM upload_sessions WHERE data_uuid = ANY (p_data);
  INSERT INTO pending_writes (sequence, node, generation, repository, templates)
  SELECT p_sequence, p_node, generation, p_repository, p_templates FROM cluster
  ON CONFLICT (sequence) DO UPDATE SET node = EXCLUDED.node, generation = EXCLUDED.generation, templates = EXCLUDED.templates, repository = EXCLUDED.repository,
    deletion = NULL, outcome_unknown = false;
  PERFORM ensure_repository(p_repository);
END $$;

-- Data whose digest is stored twice: the link goes to the copy that counts, as a push's would.
CREATE FUNCTION adopt_blob(p_digest bytea, p_uuid uuid, p_size bigint) RETURNS uuid LANGUAGE sql AS $$
  INSERT INTO blobs (digest, uuid, size) VALUES (p_digest, p_uuid, p_size) ON CONFLICT DO NOTHING;
  SELECT uuid FROM blobs WHERE digest = p_digest AND NOT damaged
$$;
