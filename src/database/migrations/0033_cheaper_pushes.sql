-- SPDX-FileCopyrightText: 2026 The ha-registry authors
-- SPDX-License-Identifier: EUPL-1.2

-- What every push paid for, and hardly any used.

-- A writing transaction locked its node's row, as all others of that node did at the same time: one row that every push wrote to, and 3.2 multixacts and 13 % of the WAL of a
-- push of a small image. An advisory lock, (4872103, hash of the id), says the same in memory: shared by who writes, alone for who declares dead.

-- The trigger first: it waits for deletions that are under way, and those that come fire it.
CREATE FUNCTION nodes_going() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_advisory_xact_lock(4872103, hashtext(OLD.id::text));
  RETURN OLD;
END $$;
CREATE TRIGGER nodes_going BEFORE DELETE ON nodes FOR EACH ROW EXECUTE FUNCTION nodes_going();

-- Two statements: the second sees what was deleted while the first waited.
CREATE OR REPLACE FUNCTION hold_node(p_node uuid) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_advisory_xact_lock_shared(4872103, hashtext(p_node::text));
  PERFORM 1 FROM nodes WHERE id = p_node;
  IF NOT FOUND THEN RAISE EXCEPTION 'node % is not registered', p_node USING ERRCODE = 'HA000'; END IF;
END $$;

-- Nodes with a transaction under way wait for the next time.
CREATE OR REPLACE FUNCTION delete_dead_nodes() RETURNS SETOF uuid LANGUAGE plpgsql AS $$
DECLARE v_id uuid;
BEGIN
  FOR v_id IN SELECT id FROM nodes WHERE NOT node_lives(id) ORDER BY id FOR UPDATE SKIP LOCKED LOOP
    IF pg_try_advisory_xact_lock(4872103, hashtext(v_id::text)) THEN
      DELETE FROM nodes WHERE id = v_id;
      RETURN NEXT v_id;
    END IF;
  END LOOP;
END $$;

-- For each row: hardly any push finds something that was missing, and a trigger for the statement costs each of them.
DROP TRIGGER gc_missing_gone ON missing_references;
CREATE OR REPLACE FUNCTION gc_missing_gone() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF OLD.kind = 'blob' THEN
    INSERT INTO gc_links (repository_id, digest, due) VALUES (OLD.repository_id, OLD.digest, next_due());
  ELSE
    INSERT INTO gc_manifests (repository_id, digest, due) VALUES (OLD.repository_id, OLD.digest, next_due());
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER gc_missing_gone AFTER DELETE ON missing_references FOR EACH ROW EXECUTE FUNCTION gc_missing_gone();
