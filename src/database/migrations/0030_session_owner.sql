-- SPDX-FileCopyrightText: 2026 The ha-registry authors
-- SPDX-License-Identifier: EUPL-1.2

-- The identity that an upload belongs to; empty for anonymous, NULL where a version that knows no owners began it.
ALTER TABLE upload_sessions ADD COLUMN owner text;

-- The repository's name where the session is this identity's, else NULL, which names no session.
CREATE FUNCTION owned_by(p_id uuid, p_repository text, p_owner text) RETURNS text STABLE LANGUAGE sql AS $$
  SELECT p_repository WHERE EXISTS (SELECT FROM upload_sessions WHERE id = p_id AND COALESCE(owner = p_owner, true))
$$;
