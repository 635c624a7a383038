-- SPDX-FileCopyrightText: 2026 The ha-registry authors
-- SPDX-License-Identifier: EUPL-1.2

-- How many bytes a repository holds (quota/): those of its blobs and manifests, each digest once. Only repositories with a row here are counted, so that without
-- quotas nothing is written. Pushes and deletions add rows, and no row is changed by two of them; the leader folds the rows into the sum. The triggers are those of
-- garbage collection (0021), so every version of the program feeds them, and no path can forget.

CREATE TABLE repository_sizes (
  repository_id bigint PRIMARY KEY,
  bytes bigint NOT NULL,
  counted_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  -- 'new', and 'waiting' for transactions below `waits_for`: they may not have seen this row. When they are over it is counted once more, and is 'exact'.
  state text NOT NULL DEFAULT 'new' CHECK (state IN ('new', 'waiting', 'exact')),
  waits_for xid8
);

CREATE TABLE repository_size_deltas (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  repository_id bigint NOT NULL,
  bytes bigint NOT NULL
);
CREATE INDEX repository_size_deltas_repository ON repository_size_deltas (repository_id);
-- They come and go all the time.
ALTER TABLE repository_size_deltas SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);

CREATE OR REPLACE FUNCTION gc_links_added() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO gc_links (repository_id, digest, due) SELECT repository_id, digest, due_at FROM added;
  IF EXISTS (SELECT 1 FROM repository_sizes) THEN
    INSERT INTO repository_size_deltas (repository_id, bytes)
    SELECT a.repository_id, sum(b.size) FROM added a JOIN repository_sizes s ON s.repository_id = a.repository_id
    JOIN blobs b ON b.digest = a.digest AND b.uuid = a.uuid GROUP BY a.repository_id;
  END IF;
  RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION gc_links_gone() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF deletion_reason() = 'deleted' THEN
    -- Nor does what was collected before the client's deletion come back.
    UPDATE object_trash t SET reason = 'deleted' FROM gone WHERE t.kind = 'link' AND t.repository_id = gone.repository_id AND t.digest = gone.digest AND t.reason = 'gc';
  END IF;
  INSERT INTO object_trash (key, kind, repository_id, digest, uuid, reason)
  SELECT entry_key('repositories/' || r.name || '/_blobs/' || digest_path(g.digest) || '/%.' || g.uuid, g.sequence), 'link', g.repository_id, g.digest, g.uuid, deletion_reason()
  FROM gone g JOIN repositories r ON r.id = g.repository_id ON CONFLICT DO NOTHING;
  INSERT INTO gc_blobs (digest, uuid, due) SELECT DISTINCT digest, uuid, clock_timestamp() FROM gone;
  IF EXISTS (SELECT 1 FROM repository_sizes) THEN
    INSERT INTO repository_size_deltas (repository_id, bytes)
    SELECT g.repository_id, -sum(b.size) FROM gone g JOIN repository_sizes s ON s.repository_id = g.repository_id
    JOIN blobs b ON b.digest = g.digest AND b.uuid = g.uuid GROUP BY g.repository_id;
  END IF;
  RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION gc_manifests_added() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO gc_manifests (repository_id, digest, due) SELECT repository_id, digest, due_at FROM added;
  IF EXISTS (SELECT 1 FROM repository_sizes) THEN
    INSERT INTO repository_size_deltas (repository_id, bytes)
    SELECT a.repository_id, sum(octet_length(a.bytes)) FROM added a JOIN repository_sizes s ON s.repository_id = a.repository_id GROUP BY a.repository_id;
  END IF;
  RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION gc_manifests_gone() RETURNS trigger LANGUAGE plpgsql AS $$
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
  IF EXISTS (SELECT 1 FROM repository_sizes) THEN
    INSERT INTO repository_size_deltas (repository_id, bytes)
    SELECT g.repository_id, -sum(octet_length(g.bytes)) FROM gone g JOIN repository_sizes s ON s.repository_id = g.repository_id GROUP BY g.repository_id;
  END IF;
  RETURN NULL;
END $$;

-- The whole of it: 100,000 links take a tenth of a second or two.
CREATE FUNCTION summed_size(p_repository_id bigint) RETURNS bigint LANGUAGE sql STABLE AS $$
  SELECT COALESCE((SELECT sum(b.size) FROM repository_blobs rb JOIN blobs b ON b.digest = rb.digest AND b.uuid = rb.uuid WHERE rb.repository_id = p_repository_id), 0)::bigint
    + COALESCE((SELECT sum(octet_length(m.bytes)) FROM manifests m WHERE m.repository_id = p_repository_id), 0)
$$;

-- What a repository holds, without counting; null where nobody counts yet.
CREATE FUNCTION known_size(p_repository_id bigint) RETURNS bigint LANGUAGE sql STABLE AS $$
  SELECT s.bytes + COALESCE((SELECT sum(d.bytes) FROM repository_size_deltas d WHERE d.repository_id = s.repository_id), 0)::bigint
  FROM repository_sizes s WHERE s.repository_id = p_repository_id
$$;

-- The same; the first to ask begins the counting.
CREATE FUNCTION repository_size(p_repository text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE v_repository_id bigint; v_bytes bigint;
BEGIN
  SELECT id INTO v_repository_id FROM repositories WHERE name = p_repository;
  IF NOT FOUND THEN RETURN 0; END IF;
  v_bytes := known_size(v_repository_id);
  IF v_bytes IS NOT NULL THEN RETURN v_bytes; END IF;
  -- One statement is one snapshot: what is summed here has its rows of an earlier counting, if any, removed here.
  WITH left_over AS (
    DELETE FROM repository_size_deltas WHERE repository_id = v_repository_id
      AND NOT EXISTS (SELECT 1 FROM repository_sizes WHERE repository_id = v_repository_id)
  ) INSERT INTO repository_sizes (repository_id, bytes) VALUES (v_repository_id, summed_size(v_repository_id)) ON CONFLICT DO NOTHING;
  RETURN known_size(v_repository_id);
END $$;

-- prepare_link and prepare_manifest for a repository that may hold p_limit bytes: 'full', with nothing registered, where it would hold more.
CREATE FUNCTION prepare_link_within(p_limit bigint, p_size bigint, p_node uuid, p_repository text, p_digest bytea, p_template text, p_own uuid, p_from text[])
RETURNS TABLE (outcome text, sequence bigint, uuid uuid, size bigint, used bigint) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE v_used bigint; v_prepared record;
BEGIN
  PERFORM hold_node(p_node);
  v_used := repository_size(p_repository);
  BEGIN
    SELECT * INTO v_prepared FROM prepare_link(p_node, p_repository, p_digest, p_template, p_own, p_from);
    IF v_prepared.outcome = 'write' AND v_used + COALESCE(p_size, v_prepared.size) > p_limit THEN RAISE EXCEPTION 'full' USING ERRCODE = 'HA005'; END IF;
  EXCEPTION WHEN SQLSTATE 'HA005' THEN
    RETURN QUERY SELECT 'full', NULL::bigint, v_prepared.uuid, COALESCE(p_size, v_prepared.size), v_used; RETURN;
  END;
  RETURN QUERY SELECT v_prepared.outcome, v_prepared.sequence, v_prepared.uuid, v_prepared.size, v_used;
END $$;

CREATE FUNCTION prepare_manifest_within(p_limit bigint, p_size bigint, p_node uuid, p_repository text, p_digest bytea, p_tags text[], p_blobs bytea[],
                                        p_children bytea[], p_allow_missing boolean, p_templates text[], p_media_type text)
RETURNS TABLE (outcome text, sequence bigint, missing bytea[], used bigint) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE v_used bigint; v_prepared record;
BEGIN
  PERFORM hold_node(p_node);
  v_used := repository_size(p_repository);
  BEGIN
    SELECT * INTO v_prepared FROM prepare_manifest(p_node, p_repository, p_digest, p_tags, p_blobs, p_children, p_allow_missing, p_templates, p_media_type);
    -- A tag that moves to what is there takes no room.
    IF v_prepared.outcome = 'write' AND v_used + p_size > p_limit
      AND NOT EXISTS (SELECT 1 FROM manifests m JOIN repositories r ON r.id = m.repository_id WHERE r.name = p_repository AND m.digest = p_digest)
    THEN RAISE EXCEPTION 'full' USING ERRCODE = 'HA005'; END IF;
  EXCEPTION WHEN SQLSTATE 'HA005' THEN
    RETURN QUERY SELECT 'full', NULL::bigint, v_prepared.missing, v_used; RETURN;
  END;
  RETURN QUERY SELECT v_prepared.outcome, v_prepared.sequence, v_prepared.missing, v_used;
END $$;

-- Whoever folds or counts holds the repository's row before it looks, so that no row counts twice; lowest id first. Returns how many repositories were folded.
CREATE FUNCTION fold_sizes(p_limit integer) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE v_repositories bigint[];
BEGIN
  DELETE FROM repository_size_deltas d WHERE NOT EXISTS (SELECT 1 FROM repository_sizes s WHERE s.repository_id = d.repository_id);
  v_repositories := ARRAY(
    SELECT s.repository_id FROM repository_sizes s
    WHERE s.repository_id IN (SELECT DISTINCT repository_id FROM repository_size_deltas LIMIT p_limit) ORDER BY s.repository_id FOR UPDATE
  );
  WITH folded AS (
    DELETE FROM repository_size_deltas WHERE repository_id = ANY (v_repositories) RETURNING repository_id, bytes
  ) UPDATE repository_sizes s SET bytes = s.bytes + f.bytes
  FROM (SELECT repository_id, sum(bytes)::bigint AS bytes FROM folded GROUP BY repository_id) f WHERE s.repository_id = f.repository_id;
  RETURN cardinality(v_repositories);
END $$;

CREATE FUNCTION recount_size(p_repository_id bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM 1 FROM repository_sizes WHERE repository_id = p_repository_id FOR UPDATE;
  -- A link and its row are of one transaction: this snapshot has both, or neither.
  WITH counted AS (DELETE FROM repository_size_deltas WHERE repository_id = p_repository_id)
  UPDATE repository_sizes SET bytes = summed_size(p_repository_id), counted_at = clock_timestamp(),
    state = CASE WHEN waits_for <= pg_snapshot_xmin(pg_current_snapshot()) THEN 'exact' ELSE state END
  WHERE repository_id = p_repository_id;
END $$;

-- Up to p_limit repositories that are to be counted again: those whose counting began a moment ago, and after p_age all.
CREATE FUNCTION sizes_to_recount(p_age interval, p_limit integer) RETURNS SETOF bigint LANGUAGE plpgsql AS $$
BEGIN
  UPDATE repository_sizes SET state = 'waiting', waits_for = pg_snapshot_xmax(pg_current_snapshot()) WHERE state = 'new';
  RETURN QUERY SELECT repository_id FROM repository_sizes
  WHERE (state = 'waiting' AND waits_for <= pg_snapshot_xmin(pg_current_snapshot())) OR counted_at < clock_timestamp() - p_age
  ORDER BY counted_at LIMIT p_limit;
END $$;
