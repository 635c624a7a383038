-- SPDX-FileCopyrightText: 2026 The ha-registry authors
-- SPDX-License-Identifier: EUPL-1.2

-- A link to data of another program's store (blobs.key, 0012): the blob is made where it is not there yet, then the link is committed as any other.
CREATE FUNCTION commit_foreign_link(p_node uuid, p_sequence bigint, p_repository text, p_digest bytea, p_prefix text, p_uuid uuid, p_size bigint, p_key text)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM hold_node(p_node);
  INSERT INTO blobs (digest, uuid, size, key) VALUES (p_digest, p_uuid, p_size, p_key) ON CONFLICT DO NOTHING;
  PERFORM commit_link(p_node, p_sequence, p_repository, p_digest, p_prefix, p_uuid, p_size, NULL, NULL, NULL);
END $$;
