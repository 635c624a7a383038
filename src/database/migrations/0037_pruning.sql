-- SPDX-FileCopyrightText: 2026 The ha-registry authors
-- SPDX-License-Identifier: EUPL-1.2

-- Pruning (collector/prune.ts): what a tag pointed at long ago, and deletions that hide nothing any more, go from the database and the store. Rows first: their keys go to
-- the trash in the same transaction, so that a crash leaves either both or neither.

-- When it was deleted, by the clock of the database. A rebuild, and this migration, begin anew: later than need be, never sooner.
ALTER TABLE tombstones ADD COLUMN at timestamptz NOT NULL DEFAULT now();

CREATE OR REPLACE FUNCTION set_tombstone(p_path text, p_repository_id bigint, p_sequence bigint) RETURNS void LANGUAGE sql AS $$
  INSERT INTO tombstones (path, repository_id, sequence) VALUES (p_path, p_repository_id, p_sequence)
  ON CONFLICT (path) DO UPDATE SET sequence = GREATEST(tombstones.sequence, EXCLUDED.sequence), at = GREATEST(tombstones.at, EXCLUDED.at)
$$;

-- Entries of a tag's history after which another came, before the undo window began. The newest entry of a tag is never one of them. Lock, then look.
CREATE FUNCTION prune_history(p_node uuid, p_repository_id bigint, p_tag text, p_path text, p_sequences bigint[]) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE v_count integer; v_before timestamptz := clock_timestamp() - undo_window(p_repository_id);
BEGIN
  PERFORM hold_node(p_node);
  PERFORM lock_tag(p_path);
  WITH gone AS (
    DELETE FROM tag_history h WHERE h.repository_id = p_repository_id AND h.name = p_tag AND h.sequence = ANY (p_sequences) AND h.at < v_before
      AND (SELECT n.at FROM tag_history n WHERE n.repository_id = h.repository_id AND n.name = h.name AND n.sequence > h.sequence ORDER BY n.sequence LIMIT 1) < v_before
    RETURNING h.sequence, h.digest
  ), trashed AS (
    INSERT INTO object_trash (key, reason) SELECT entry_key(p_path || '%.' || COALESCE(replace(digest_path(digest), '/', '.'), 'deleted'), sequence), 'pruned' FROM gone
    ON CONFLICT DO NOTHING
  ) SELECT count(*) INTO v_count FROM gone;
  RETURN v_count;
END $$;

-- Nothing that is older can come any more: no write is pending there, nothing of it waits for its (second) deletion, and of a tag's history only this is left. What the
-- store holds there is for the caller to look at, before this.
CREATE FUNCTION may_prune_deletion(p_repository text, p_repository_id bigint, p_path text, p_sequence bigint) RETURNS boolean LANGUAGE sql STABLE AS $$
  SELECT EXISTS (SELECT 1 FROM tombstones WHERE path = p_path AND sequence = p_sequence AND at < clock_timestamp() - undo_window(p_repository_id))
    AND NOT is_pending(p_repository, ARRAY[p_path])
    AND NOT EXISTS (SELECT 1 FROM object_trash WHERE key >= p_path AND key < p_path || ':')
    AND NOT EXISTS (
      SELECT 1 FROM tag_history h WHERE h.repository_id = p_repository_id AND h.name = substring(p_path FROM '/_tags/([^/]+)/$') AND h.sequence <> p_sequence
    )
$$;

-- Whoever commits a newer entry waits for the tombstone's row.
CREATE FUNCTION prune_deletion(p_node uuid, p_repository text, p_repository_id bigint, p_path text, p_sequence bigint) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
  PERFORM hold_node(p_node);
  PERFORM 1 FROM tombstones WHERE path = p_path AND sequence = p_sequence FOR UPDATE;
  IF NOT may_prune_deletion(p_repository, p_repository_id, p_path, p_sequence) THEN RETURN false; END IF;
  DELETE FROM tombstones WHERE path = p_path AND sequence = p_sequence;
  DELETE FROM tag_history WHERE repository_id = p_repository_id AND name = substring(p_path FROM '/_tags/([^/]+)/$') AND sequence = p_sequence;
  PERFORM trash(ARRAY[entry_key(p_path || '%.deleted', p_sequence)], 'pruned');
  RETURN true;
END $$;
