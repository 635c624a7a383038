-- SPDX-FileCopyrightText: 2026 The ha-registry authors
-- SPDX-License-Identifier: EUPL-1.2

-- A writer is waited for as long as its node is, and no longer than its lease: a node that died or froze is known as dead (0008) long before that ends, also while its
-- row cannot be deleted yet.
CREATE OR REPLACE FUNCTION writer_lives(p_node uuid, p_lease_until timestamptz) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
  RETURN p_lease_until > clock_timestamp() AND node_lives(p_node);
END $$;
