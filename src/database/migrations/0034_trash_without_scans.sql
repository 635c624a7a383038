-- SPDX-FileCopyrightText: 2026 The ha-registry authors
-- SPDX-License-Identifier: EUPL-1.2

-- Whether data may go was looked for among all that wait, after each thousand deletions: quadratic.
-- Whoever deletes a link's entry, or hands data to the trash, decides it for these data now. What two that do it at once overlook, advance_trash finds.

-- A delay from now for these data, unless an entry that names them is left in the store.
CREATE FUNCTION confirm_data(p_uuids uuid[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  WITH confirmed AS (
    SELECT d.key FROM (SELECT DISTINCT unnest(p_uuids) AS uuid) u JOIN object_trash d ON d.key = data_key(u.uuid)
    WHERE d.kind = 'data' AND d.not_before = 'infinity'
      AND NOT EXISTS (SELECT 1 FROM object_trash l WHERE l.uuid = u.uuid AND l.kind = 'link' AND l.removed_at IS NULL)
    ORDER BY d.key FOR UPDATE OF d SKIP LOCKED
  ) UPDATE object_trash d SET not_before = next_due() FROM confirmed WHERE d.key = confirmed.key;
END $$;

CREATE OR REPLACE FUNCTION gc_blobs_gone() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO object_trash (key, kind, digest, uuid, size, reason, not_before)
  SELECT data_key(uuid), 'data', digest, uuid, size, deletion_reason(), 'infinity' FROM gone WHERE key IS NULL ON CONFLICT DO NOTHING;
  PERFORM confirm_data(array_agg(uuid)) FROM gone WHERE key IS NULL HAVING count(*) > 0;
  RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION finish_trash(p_deleted text[], p_failed text[], OUT objects bigint, OUT bytes bigint) LANGUAGE plpgsql AS $$
DECLARE v_links uuid[]; v_data uuid[];
BEGIN
  PERFORM 1 FROM object_trash WHERE key = ANY (p_deleted || p_failed) ORDER BY key FOR UPDATE;
  SELECT array_agg(uuid) FILTER (WHERE kind = 'link'), array_agg(uuid) FILTER (WHERE kind = 'data') INTO v_links, v_data
  FROM object_trash WHERE key = ANY (p_deleted) AND uuid IS NOT NULL;
  UPDATE object_trash SET lease_until = NULL, not_before = clock_timestamp() + interval '1 minute' WHERE key = ANY (p_failed);
  WITH gone AS (
    DELETE FROM object_trash WHERE key = ANY (p_deleted) AND repeat_at IS NULL AND (kind = 'link' AND reason = 'gc') IS NOT TRUE RETURNING kind, size
  ) SELECT count(*) FILTER (WHERE kind = 'data'), COALESCE(sum(size) FILTER (WHERE kind = 'data'), 0) INTO objects, bytes FROM gone;
  -- A write of a node that hung may land after the deletion: such keys are deleted a second time.
  UPDATE object_trash SET removed_at = clock_timestamp(), lease_until = NULL, not_before = COALESCE(repeat_at, 'infinity'), repeat_at = NULL
  WHERE key = ANY (p_deleted);
  PERFORM confirm_data(v_links);
  -- With the data go the rows of the links that named them.
  WITH spent AS (
    SELECT l.key FROM (SELECT DISTINCT unnest(v_data) AS uuid) u JOIN object_trash l ON l.uuid = u.uuid
    WHERE l.kind = 'link' AND l.not_before = 'infinity' AND l.removed_at < clock_timestamp() - gc_delay()
      AND NOT EXISTS (SELECT 1 FROM object_trash d WHERE d.key = data_key(l.uuid))
    ORDER BY l.key FOR UPDATE OF l SKIP LOCKED
  ) DELETE FROM object_trash l USING spent WHERE l.key = spent.key;
END $$;

-- Plans are kept, and those from when a table was empty read an index from one end to the other where the right one has a row: they go when the table is analyzed. Autovacuum
-- does that in its own time; who is about to work through a million rows asks whether that time has come.
CREATE FUNCTION refresh_statistics() RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE v_table regclass;
BEGIN
  FOR v_table IN
    SELECT c.oid FROM unnest(ARRAY['gc_links', 'gc_manifests', 'gc_blobs', 'object_trash', 'blobs', 'repository_blobs', 'manifests', 'manifest_blobs', 'manifest_children',
                                   'tags', 'tag_history', 'missing_references', 'deleted_manifests', 'tombstones']::regclass[]) t JOIN pg_class c ON c.oid = t
    WHERE pg_stat_get_live_tuples(c.oid) > 500 AND c.reltuples < pg_stat_get_live_tuples(c.oid) * 0.2 ORDER BY c.oid
  LOOP
    BEGIN
      EXECUTE format('ANALYZE %s', v_table);
      RETURN NEXT v_table::text;
    EXCEPTION WHEN lock_not_available THEN
      NULL; -- Somebody else does.
    END;
  END LOOP;
END $$;
