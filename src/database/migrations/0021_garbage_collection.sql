-- SPDX-FileCopyrightText: 2026 The ha-registry authors
-- SPDX-License-Identifier: EUPL-1.2

-- Garbage collection (collector/): queues of what to look at, and the trash as an outbox.
--
-- Queues only point at rows; whether a row is dead, and when it may go, stands on the row alone. They are append-only (duplicates do no harm, a wake-up that is lost does)
-- and filled by triggers, so that every version of the program feeds them and no path can forget.

-- A node whose version does not speak this protocol (nodes.gc_protocol, 0008) may say that something exists without moving due_at on: nothing is collected beside it.

-- gc.delay as the node's connections say it, so that functions which have no parameter for it know it as well.
CREATE FUNCTION gc_delay() RETURNS interval LANGUAGE sql STABLE AS $$
  SELECT COALESCE(NULLIF(current_setting('ha_registry.gc_delay', true), '')::interval, interval '24 hours')
$$;
CREATE OR REPLACE FUNCTION next_due() RETURNS timestamptz LANGUAGE sql STABLE AS $$ SELECT clock_timestamp() + gc_delay() $$;

-- As storage/keys.ts has it.
CREATE FUNCTION digest_path(p_digest bytea) RETURNS text LANGUAGE sql IMMUTABLE AS $$
  SELECT CASE get_byte(p_digest, 0) WHEN 1 THEN 'sha256' ELSE 'sha512' END || '/' || encode(substr(p_digest, 2), 'hex')
$$;


-- What liveness needs besides what is there.

ALTER TABLE manifests ADD COLUMN pulled_at timestamptz;
CREATE INDEX tag_history_manifest ON tag_history (repository_id, digest, name, sequence) WHERE digest IS NOT NULL;
CREATE INDEX blobs_uuid ON blobs (uuid);
CREATE INDEX upload_sessions_data ON upload_sessions (data_uuid);

-- Manifests that stay whatever else points at them.
CREATE TABLE manifest_holds (
  repository_id bigint NOT NULL,
  digest bytea NOT NULL,
  reason text NOT NULL,
  PRIMARY KEY (repository_id, digest, reason),
  FOREIGN KEY (repository_id, digest) REFERENCES manifests
);

-- Data objects that nothing names, and since when: one that is seen again two days later goes.
CREATE TABLE sweep_sightings (
  uuid uuid PRIMARY KEY,
  first_seen_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  last_seen_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- When the jobs that are not for every round were begun last.
CREATE TABLE gc_runs (
  job text PRIMARY KEY,
  begun_at timestamptz NOT NULL
);


-- The outbox.

ALTER TABLE object_trash
  ADD COLUMN kind text,
  ADD COLUMN repository_id bigint,
  ADD COLUMN digest bytea,
  -- The data object that a link names, or that this row is.
  ADD COLUMN uuid uuid,
  ADD COLUMN size bigint,
  -- One-way: whoever claimed data may have deleted them already, so they never come back.
  ADD COLUMN claimed_at timestamptz,
  ADD COLUMN lease_until timestamptz,
  -- The object is gone. A collected link's row stays as long as its data's: it tells that this repository had the digest.
  ADD COLUMN removed_at timestamptz;
CREATE INDEX object_trash_uuid ON object_trash (uuid) WHERE uuid IS NOT NULL;
CREATE INDEX object_trash_link ON object_trash (repository_id, digest) WHERE kind = 'link';
CREATE INDEX object_trash_waiting ON object_trash (key) WHERE kind = 'data' AND not_before = 'infinity';
CREATE INDEX object_trash_removed ON object_trash (removed_at) WHERE removed_at IS NOT NULL;

-- Links that are trashed by their key alone (superseded, refused) are told apart as well: data wait until none that names them is left in the store.
CREATE FUNCTION object_trash_link_key() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  NEW.uuid := substring(NEW.key FROM '/_blobs/[a-z0-9]+/[0-9a-f]+/[0-9]{20}\.([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})$')::uuid;
  IF NEW.uuid IS NOT NULL THEN NEW.kind := 'link'; END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER object_trash_link_key BEFORE INSERT ON object_trash FOR EACH ROW WHEN (NEW.kind IS NULL AND NEW.key LIKE 'repositories/%')
EXECUTE FUNCTION object_trash_link_key();

-- 'gc' while the collector deletes, which says so; 'deleted' for everybody else: what a client deleted never comes back by itself.
CREATE FUNCTION deletion_reason() RETURNS text LANGUAGE sql STABLE AS $$
  SELECT CASE WHEN current_setting('ha_registry.collecting', true) = 'on' THEN 'gc' ELSE 'deleted' END
$$;


-- Queues.

CREATE TABLE gc_links (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  repository_id bigint NOT NULL,
  digest bytea NOT NULL,
  due timestamptz NOT NULL
);
CREATE INDEX gc_links_due ON gc_links (due);

CREATE TABLE gc_manifests (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  repository_id bigint NOT NULL,
  digest bytea NOT NULL,
  due timestamptz NOT NULL
);
CREATE INDEX gc_manifests_due ON gc_manifests (due);

CREATE TABLE gc_blobs (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  digest bytea NOT NULL,
  uuid uuid NOT NULL,
  due timestamptz NOT NULL
);
CREATE INDEX gc_blobs_due ON gc_blobs (due);

-- Whoever moves the times of many rows locks them in their order first. A time that stands at nearly the whole delay already is left alone: base layers have many referrers.

CREATE FUNCTION move_links_on(p_repositories bigint[], p_digests bytea[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM 1 FROM (SELECT DISTINCT r, d FROM unnest(p_repositories, p_digests) k (r, d)) k JOIN repository_blobs rb ON rb.repository_id = k.r AND rb.digest = k.d
  WHERE rb.due_at < clock_timestamp() + gc_delay() * 0.95 ORDER BY rb.repository_id, rb.digest FOR NO KEY UPDATE OF rb;
  UPDATE repository_blobs rb SET due_at = next_due() FROM (SELECT DISTINCT r, d FROM unnest(p_repositories, p_digests) k (r, d)) k
  WHERE rb.repository_id = k.r AND rb.digest = k.d AND rb.due_at < clock_timestamp() + gc_delay() * 0.95;
END $$;

CREATE FUNCTION move_manifests_on(p_repositories bigint[], p_digests bytea[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM 1 FROM (SELECT DISTINCT r, d FROM unnest(p_repositories, p_digests) k (r, d)) k JOIN manifests m ON m.repository_id = k.r AND m.digest = k.d
  WHERE m.due_at < clock_timestamp() + gc_delay() * 0.95 ORDER BY m.repository_id, m.digest FOR NO KEY UPDATE OF m;
  UPDATE manifests m SET due_at = next_due() FROM (SELECT DISTINCT r, d FROM unnest(p_repositories, p_digests) k (r, d)) k
  WHERE m.repository_id = k.r AND m.digest = k.d AND m.due_at < clock_timestamp() + gc_delay() * 0.95;
END $$;

-- Links.

CREATE FUNCTION gc_links_added() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO gc_links (repository_id, digest, due) SELECT repository_id, digest, due_at FROM added;
  RETURN NULL;
END $$;
CREATE TRIGGER gc_links_added AFTER INSERT ON repository_blobs REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION gc_links_added();

CREATE FUNCTION gc_links_gone() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF deletion_reason() = 'deleted' THEN
    -- Nor does what was collected before the client's deletion come back.
    UPDATE object_trash t SET reason = 'deleted' FROM gone WHERE t.kind = 'link' AND t.repository_id = gone.repository_id AND t.digest = gone.digest AND t.reason = 'gc';
  END IF;
  INSERT INTO object_trash (key, kind, repository_id, digest, uuid, reason)
  SELECT entry_key('repositories/' || r.name || '/_blobs/' || digest_path(g.digest) || '/%.' || g.uuid, g.sequence), 'link', g.repository_id, g.digest, g.uuid, deletion_reason()
  FROM gone g JOIN repositories r ON r.id = g.repository_id ON CONFLICT DO NOTHING;
  INSERT INTO gc_blobs (digest, uuid, due) SELECT DISTINCT digest, uuid, clock_timestamp() FROM gone;
  RETURN NULL;
END $$;
CREATE TRIGGER gc_links_gone AFTER DELETE ON repository_blobs REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION gc_links_gone();

-- For each row: times move often, data hardly ever, and only then is there something to do.
CREATE FUNCTION gc_link_moved() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO gc_blobs (digest, uuid, due) VALUES (OLD.digest, OLD.uuid, clock_timestamp());
  RETURN NULL;
END $$;
CREATE TRIGGER gc_link_moved AFTER UPDATE OF uuid ON repository_blobs FOR EACH ROW WHEN (OLD.uuid <> NEW.uuid) EXECUTE FUNCTION gc_link_moved();

CREATE FUNCTION gc_blob_references_gone() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM move_links_on(array_agg(repository_id), array_agg(digest)) FROM gone;
  INSERT INTO gc_links (repository_id, digest, due) SELECT DISTINCT repository_id, digest, next_due() FROM gone;
  RETURN NULL;
END $$;
CREATE TRIGGER gc_blob_references_gone AFTER DELETE ON manifest_blobs REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION gc_blob_references_gone();

-- Blobs.

-- Data taken over in place from another store (blobs.key) are not ours to delete.
CREATE FUNCTION gc_blobs_gone() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO object_trash (key, kind, digest, uuid, size, reason, not_before)
  SELECT data_key(uuid), 'data', digest, uuid, size, deletion_reason(), 'infinity' FROM gone WHERE key IS NULL ON CONFLICT DO NOTHING;
  RETURN NULL;
END $$;
CREATE TRIGGER gc_blobs_gone AFTER DELETE ON blobs REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION gc_blobs_gone();

-- Manifests.

CREATE FUNCTION gc_manifests_added() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO gc_manifests (repository_id, digest, due) SELECT repository_id, digest, due_at FROM added;
  RETURN NULL;
END $$;
CREATE TRIGGER gc_manifests_added AFTER INSERT ON manifests REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION gc_manifests_added();

CREATE FUNCTION gc_manifests_gone() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO object_trash (key, kind, repository_id, digest, reason)
  SELECT entry_key('repositories/' || r.name || '/_manifests/' || digest_path(g.digest) || '/%', g.sequence), 'manifest', g.repository_id, g.digest, deletion_reason()
  FROM gone g JOIN repositories r ON r.id = g.repository_id
  UNION ALL
  SELECT entry_key('repositories/' || r.name || '/_referrers/' || digest_path(g.subject) || '/' || replace(digest_path(g.digest), '/', '-') || '.%', g.sequence),
    'referrer', g.repository_id, g.digest, deletion_reason()
  FROM gone g JOIN repositories r ON r.id = g.repository_id WHERE g.subject IS NOT NULL
  ON CONFLICT DO NOTHING;
  -- What referred to it has nothing to stay for.
  PERFORM move_manifests_on(array_agg(m.repository_id), array_agg(m.digest))
  FROM gone JOIN manifests m ON m.repository_id = gone.repository_id AND m.subject = gone.digest;
  INSERT INTO gc_manifests (repository_id, digest, due)
  SELECT m.repository_id, m.digest, m.due_at FROM gone JOIN manifests m ON m.repository_id = gone.repository_id AND m.subject = gone.digest;
  RETURN NULL;
END $$;
CREATE TRIGGER gc_manifests_gone AFTER DELETE ON manifests REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION gc_manifests_gone();

CREATE FUNCTION gc_children_gone() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM move_manifests_on(array_agg(repository_id), array_agg(digest)) FROM gone;
  INSERT INTO gc_manifests (repository_id, digest, due) SELECT DISTINCT repository_id, digest, next_due() FROM gone;
  RETURN NULL;
END $$;
CREATE TRIGGER gc_children_gone AFTER DELETE ON manifest_children REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION gc_children_gone();

-- Also when what was missing arrives: a look too many.
CREATE FUNCTION gc_missing_gone() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO gc_links (repository_id, digest, due) SELECT DISTINCT repository_id, digest, next_due() FROM gone WHERE kind = 'blob';
  INSERT INTO gc_manifests (repository_id, digest, due) SELECT DISTINCT repository_id, digest, next_due() FROM gone WHERE kind = 'manifest';
  RETURN NULL;
END $$;
CREATE TRIGGER gc_missing_gone AFTER DELETE ON missing_references REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION gc_missing_gone();

-- A tag that leaves a manifest does not touch its row (two pushes that swap a tag would wait for each other): the tag's history keeps it for a delay at least.
CREATE FUNCTION gc_tags_gone() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO gc_manifests (repository_id, digest, due) SELECT DISTINCT repository_id, digest, next_due() FROM gone;
  RETURN NULL;
END $$;
CREATE TRIGGER gc_tags_moved AFTER UPDATE ON tags REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION gc_tags_gone();
CREATE TRIGGER gc_tags_gone AFTER DELETE ON tags REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION gc_tags_gone();
CREATE TRIGGER gc_holds_gone AFTER DELETE ON manifest_holds REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION gc_tags_gone();


-- Promises: what a client was told exists stays for at least an hour. Two statements: what the collector deleted while the lock was waited for is not promised.

-- The positions (from 1) that still exist, with their time moved on.
CREATE FUNCTION promise_links(p_names text[], p_digests bytea[]) RETURNS SETOF integer LANGUAGE plpgsql AS $$
BEGIN
  PERFORM 1 FROM unnest(p_names, p_digests) k (name, digest) JOIN LATERAL (SELECT id FROM repositories WHERE name = k.name OFFSET 0) r ON true
  JOIN repository_blobs rb ON rb.repository_id = r.id AND rb.digest = k.digest ORDER BY rb.repository_id, rb.digest FOR NO KEY UPDATE OF rb;
  RETURN QUERY WITH k AS (
    SELECT r.id, k.digest, k.i::integer FROM unnest(p_names, p_digests) WITH ORDINALITY AS k (name, digest, i)
    JOIN LATERAL (SELECT id FROM repositories WHERE name = k.name OFFSET 0) r ON true
  ), kept AS (
    UPDATE repository_blobs rb SET due_at = GREATEST(rb.due_at, next_due()) FROM (SELECT DISTINCT k.id, k.digest FROM k) d
    WHERE rb.repository_id = d.id AND rb.digest = d.digest RETURNING rb.repository_id, rb.digest
  ) SELECT k.i FROM k JOIN kept ON kept.repository_id = k.id AND kept.digest = k.digest;
END $$;

CREATE FUNCTION promise_manifests(p_names text[], p_digests bytea[]) RETURNS SETOF integer LANGUAGE plpgsql AS $$
BEGIN
  PERFORM 1 FROM unnest(p_names, p_digests) k (name, digest) JOIN LATERAL (SELECT id FROM repositories WHERE name = k.name OFFSET 0) r ON true
  JOIN manifests m ON m.repository_id = r.id AND m.digest = k.digest ORDER BY m.repository_id, m.digest FOR NO KEY UPDATE OF m;
  RETURN QUERY WITH k AS (
    SELECT r.id, k.digest, k.i::integer FROM unnest(p_names, p_digests) WITH ORDINALITY AS k (name, digest, i)
    JOIN LATERAL (SELECT id FROM repositories WHERE name = k.name OFFSET 0) r ON true
  ), kept AS (
    UPDATE manifests m SET due_at = GREATEST(m.due_at, next_due()) FROM (SELECT DISTINCT k.id, k.digest FROM k) d
    WHERE m.repository_id = d.id AND m.digest = d.digest RETURNING m.repository_id, m.digest
  ) SELECT k.i FROM k JOIN kept ON kept.repository_id = k.id AND kept.digest = k.digest;
END $$;

-- Once an hour is enough for what is kept for days.
CREATE FUNCTION record_pulls(p_names text[], p_digests bytea[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM 1 FROM unnest(p_names, p_digests) k (name, digest) JOIN LATERAL (SELECT id FROM repositories WHERE name = k.name OFFSET 0) r ON true
  JOIN manifests m ON m.repository_id = r.id AND m.digest = k.digest
  WHERE m.pulled_at IS NULL OR m.pulled_at < clock_timestamp() - interval '1 hour' ORDER BY m.repository_id, m.digest FOR NO KEY UPDATE OF m;
  UPDATE manifests m SET pulled_at = clock_timestamp()
  FROM unnest(p_names, p_digests) k (name, digest) JOIN LATERAL (SELECT id FROM repositories WHERE name = k.name OFFSET 0) r ON true
  WHERE m.repository_id = r.id AND m.digest = k.digest AND (m.pulled_at IS NULL OR m.pulled_at < clock_timestamp() - interval '1 hour');
END $$;


-- Resurrection: a link that was collected while a client counted on it, from data that are still there.

-- A look, no change. Never another repository's, never what a client deleted.
CREATE FUNCTION find_collected_link(p_repository text, p_digest bytea) RETURNS uuid LANGUAGE sql STABLE AS $$
  SELECT COALESCE(b.uuid, d.uuid)
  FROM repositories r
  JOIN object_trash t ON t.repository_id = r.id AND t.kind = 'link' AND t.digest = p_digest AND t.reason = 'gc'
  LEFT JOIN blobs b ON b.digest = t.digest AND NOT b.damaged
  LEFT JOIN object_trash d ON d.key = data_key(t.uuid) AND d.kind = 'data' AND d.claimed_at IS NULL AND d.not_before > clock_timestamp()
  WHERE r.name = p_repository AND COALESCE(b.uuid, d.uuid) IS NOT NULL
    AND NOT EXISTS (SELECT 1 FROM repository_blobs rb WHERE rb.repository_id = r.id AND rb.digest = t.digest)
  LIMIT 1
$$;

-- The new link's commit. The data come back only if nobody has claimed them; not_before spares nodes of a version that claims nothing.
CREATE FUNCTION commit_resurrection(p_node uuid, p_sequence bigint, p_repository text, p_digest bytea, p_prefix text, p_uuid uuid) RETURNS void LANGUAGE plpgsql AS $$
DECLARE v_repository_id bigint; v_size bigint;
BEGIN
  PERFORM hold_node(p_node);
  SELECT id INTO STRICT v_repository_id FROM repositories WHERE name = p_repository;
  PERFORM lock_arrival(v_repository_id, p_digest, false);
  PERFORM 1 FROM object_trash WHERE repository_id = v_repository_id AND digest = p_digest AND kind = 'link' AND reason = 'gc';
  IF NOT FOUND THEN RAISE EXCEPTION 'the link was deleted meanwhile' USING ERRCODE = 'HA001'; END IF;
  DELETE FROM object_trash WHERE key = data_key(p_uuid) AND kind = 'data' AND claimed_at IS NULL AND not_before > clock_timestamp() RETURNING size INTO v_size;
  IF FOUND THEN
    INSERT INTO blobs (digest, uuid, size) VALUES (p_digest, p_uuid, v_size) ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN RAISE EXCEPTION 'the digest was uploaded again meanwhile' USING ERRCODE = 'HA001'; END IF;
  END IF;
  -- Without the data the link's foreign key fails, and the look is taken once more.
  PERFORM commit_link(p_node, p_sequence, p_repository, p_digest, p_prefix, p_uuid, NULL, NULL, NULL, NULL);
END $$;


-- Emptying the trash.

CREATE FUNCTION claim_trash(p_limit integer, p_lease interval) RETURNS SETOF text LANGUAGE sql AS $$
  WITH due AS (
    SELECT key FROM object_trash WHERE not_before <= clock_timestamp() AND (lease_until IS NULL OR lease_until <= clock_timestamp())
    ORDER BY not_before LIMIT p_limit FOR UPDATE SKIP LOCKED
  )
  UPDATE object_trash t SET claimed_at = COALESCE(t.claimed_at, clock_timestamp()), lease_until = clock_timestamp() + p_lease
  FROM due WHERE t.key = due.key RETURNING t.key
$$;

-- After the deletion: bytes and number of data objects that are gone.
CREATE FUNCTION finish_trash(p_deleted text[], p_failed text[], OUT objects bigint, OUT bytes bigint) LANGUAGE plpgsql AS $$
BEGIN
  PERFORM 1 FROM object_trash WHERE key = ANY (p_deleted || p_failed) ORDER BY key FOR UPDATE;
  UPDATE object_trash SET lease_until = NULL, not_before = clock_timestamp() + interval '1 minute' WHERE key = ANY (p_failed);
  WITH gone AS (
    DELETE FROM object_trash WHERE key = ANY (p_deleted) AND repeat_at IS NULL AND (kind = 'link' AND reason = 'gc') IS NOT TRUE RETURNING kind, size
  ) SELECT count(*) FILTER (WHERE kind = 'data'), COALESCE(sum(size) FILTER (WHERE kind = 'data'), 0) INTO objects, bytes FROM gone;
  -- A write of a node that hung may land after the deletion: such keys are deleted a second time.
  UPDATE object_trash SET removed_at = clock_timestamp(), lease_until = NULL, not_before = COALESCE(repeat_at, 'infinity'), repeat_at = NULL
  WHERE key = ANY (p_deleted);
END $$;

-- Data may go a delay after the last link entry that names them has left the store; the rows of those links go with them.
CREATE FUNCTION advance_trash(p_limit integer) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE v_count integer; v_more integer;
BEGIN
  WITH confirmed AS (
    SELECT d.key FROM object_trash d
    WHERE d.kind = 'data' AND d.not_before = 'infinity'
      AND NOT EXISTS (SELECT 1 FROM object_trash l WHERE l.uuid = d.uuid AND l.kind = 'link' AND l.removed_at IS NULL)
    ORDER BY d.key LIMIT p_limit FOR UPDATE SKIP LOCKED
  ) UPDATE object_trash d SET not_before = next_due() FROM confirmed WHERE d.key = confirmed.key;
  GET DIAGNOSTICS v_count = ROW_COUNT;
  WITH spent AS (
    SELECT l.key FROM object_trash l
    WHERE l.removed_at < clock_timestamp() - gc_delay() AND l.kind = 'link' AND l.not_before = 'infinity'
      AND NOT EXISTS (SELECT 1 FROM object_trash d WHERE d.uuid = l.uuid AND d.kind = 'data')
    ORDER BY l.removed_at LIMIT p_limit FOR UPDATE SKIP LOCKED
  ) DELETE FROM object_trash l USING spent WHERE l.key = spent.key;
  GET DIAGNOSTICS v_more = ROW_COUNT;
  RETURN GREATEST(v_count, v_more);
END $$;
