-- SPDX-FileCopyrightText: 2026 The ha-registry authors
-- SPDX-License-Identifier: EUPL-1.2

-- Who waits until all transactions of before have ended does not wait for those of other databases: on a shared server one of them may run for hours.

-- Whether every transaction below p_xid has ended for the snapshot of the statement that asks (hence STABLE), those of other databases aside. In doubt, not yet: what has
-- ended since that snapshot holds no lock any more, and neither a prepared transaction nor one that ends at this moment tells its database.
CREATE FUNCTION ended_before(p_xid xid8) RETURNS boolean LANGUAGE sql STABLE AS $$
  SELECT pg_snapshot_xmin(snapshot) >= p_xid OR (pg_snapshot_xmax(snapshot) >= p_xid AND NOT EXISTS (
    SELECT FROM pg_snapshot_xip(snapshot) running WHERE running < p_xid AND NOT EXISTS (
      SELECT FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
      WHERE l.locktype = 'transactionid' AND l.mode = 'ExclusiveLock' AND l.granted
        AND l.transactionid::text::numeric = running::text::numeric % 4294967296
        AND a.datid <> (SELECT oid FROM pg_database WHERE datname = current_database()))))
  FROM (SELECT pg_current_snapshot() AS snapshot) now
$$;

CREATE OR REPLACE FUNCTION recount_size(p_repository_id bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM 1 FROM repository_sizes WHERE repository_id = p_repository_id FOR UPDATE;
  -- A link and its row are of one transaction: this snapshot has both, or neither.
  WITH counted AS (DELETE FROM repository_size_deltas WHERE repository_id = p_repository_id)
  UPDATE repository_sizes SET bytes = summed_size(p_repository_id), counted_at = clock_timestamp(),
    state = CASE WHEN ended_before(waits_for) THEN 'exact' ELSE state END
  WHERE repository_id = p_repository_id;
END $$;

CREATE OR REPLACE FUNCTION sizes_to_recount(p_age interval, p_limit integer) RETURNS SETOF bigint LANGUAGE plpgsql AS $$
BEGIN
  UPDATE repository_sizes SET state = 'waiting', waits_for = pg_snapshot_xmax(pg_current_snapshot()) WHERE state = 'new';
  RETURN QUERY SELECT repository_id FROM repository_sizes
  WHERE (state = 'waiting' AND ended_before(waits_for)) OR counted_at < clock_timestamp() - p_age
  ORDER BY counted_at LIMIT p_limit;
END $$;

CREATE OR REPLACE FUNCTION settle_alone(p_sequence bigint, p_repository text, p_prefix text, p_xid xid8) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM settle(p_sequence);
  IF NOT ended_before(p_xid) OR is_pending(p_repository, ARRAY[p_prefix]) THEN
    RAISE EXCEPTION 'others are writing under %', p_prefix USING ERRCODE = 'HA001';
  END IF;
END $$;
