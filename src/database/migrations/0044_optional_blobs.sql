-- SPDX-FileCopyrightText: 2026 The ha-registry authors
-- SPDX-License-Identifier: EUPL-1.2

-- Non-distributable layers are optional: a manifest refers to those that are in its repository as to any blob, and those that are not may come. They are never missing.

-- The transaction's next step after a manifest's own (commit_manifest), or alone for one that is there. Repeating it changes nothing.
CREATE FUNCTION refer_to_optional(p_node uuid, p_repository_id bigint, p_manifest bytea, p_optional bytea[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE v_alone boolean := cardinality(p_optional) > 64; v_absent bytea[];
BEGIN
  PERFORM hold_node(p_node);
  PERFORM lock_arrival(p_repository_id, p_manifest, v_alone);
  PERFORM 1 FROM manifests WHERE repository_id = p_repository_id AND digest = p_manifest FOR KEY SHARE;
  IF NOT FOUND THEN RETURN; END IF;
  PERFORM 1 FROM repository_blobs WHERE repository_id = p_repository_id AND digest = ANY (p_optional) ORDER BY digest FOR KEY SHARE;
  v_absent := ARRAY(
    SELECT d FROM unnest(p_optional) d WHERE NOT EXISTS (SELECT 1 FROM repository_blobs WHERE repository_id = p_repository_id AND digest = d) ORDER BY d
  );
  IF v_absent <> '{}' AND NOT v_alone THEN PERFORM await_arrivals(p_repository_id, v_absent); END IF;
  -- Damaged ones as well: whoever pushes them again heals what is referred to.
  INSERT INTO manifest_blobs SELECT p_repository_id, p_manifest, d FROM unnest(p_optional) d
  WHERE EXISTS (SELECT 1 FROM repository_blobs WHERE repository_id = p_repository_id AND digest = d) ON CONFLICT DO NOTHING;
  INSERT INTO missing_references SELECT p_repository_id, p_manifest, d, 'blob' FROM unnest(p_optional) d
  WHERE NOT EXISTS (SELECT 1 FROM manifest_blobs WHERE repository_id = p_repository_id AND manifest = p_manifest AND digest = d) ON CONFLICT DO NOTHING;
END $$;

CREATE FUNCTION commit_manifest_with_optional(p_node uuid, p_sequence bigint, p_repository text, p_digest bytea, p_media_type text, p_bytes bytea,
                                              p_subject bytea, p_artifact_type text, p_annotations jsonb, p_blobs bytea[], p_children bytea[],
                                              p_allow_missing boolean, p_tags text[], p_path text, p_tags_prefix text, p_superseded text[],
                                              p_optional bytea[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM hold_node(p_node);
  -- Whoever holds the repository's lock with others does not get it alone.
  IF cardinality(p_optional) > 64 THEN PERFORM lock_arrival(ensure_repository(p_repository), p_digest, true); END IF;
  PERFORM commit_manifest(p_node, p_sequence, p_repository, p_digest, p_media_type, p_bytes, p_subject, p_artifact_type, p_annotations, p_blobs, p_children,
                          p_allow_missing, p_tags, p_path, p_tags_prefix, p_superseded);
  PERFORM refer_to_optional(p_node, ensure_repository(p_repository), p_digest, p_optional);
END $$;

-- Those that whoever pushes their manifest should know of: the data are damaged, or were collected and can come back.
CREATE FUNCTION unusable_optional(p_repository text, p_optional bytea[]) RETURNS bytea[] LANGUAGE sql STABLE AS $$
  SELECT COALESCE(array_agg(d ORDER BY d), '{}') FROM unnest(p_optional) d
  WHERE EXISTS (
      SELECT 1 FROM repositories r JOIN repository_blobs rb ON rb.repository_id = r.id JOIN blobs b ON b.digest = rb.digest AND b.uuid = rb.uuid
      WHERE r.name = p_repository AND rb.digest = d AND b.damaged
    ) OR find_collected_link(p_repository, d) IS NOT NULL
$$;


-- Manifests of versions before do not refer to theirs yet: the collector looks through all of them, once, before it deletes another link.

CREATE TABLE optional_walk (
  singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
  -- Whoever begins anew counts on, so that a step of the walk before is not taken for one of the new.
  round integer NOT NULL DEFAULT 0,
  -- Everything up to here has been looked at.
  repository_id bigint NOT NULL DEFAULT 0,
  digest bytea NOT NULL DEFAULT '',
  done boolean NOT NULL DEFAULT false
);
INSERT INTO optional_walk DEFAULT VALUES;

-- Nothing is collected beside a node of a version before (nodes.gc_protocol); what it has pushed by the time it ends is looked through, too.
CREATE FUNCTION optional_walk_again() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  UPDATE optional_walk SET round = round + 1, repository_id = 0, digest = '', done = false;
  RETURN NULL;
END $$;
CREATE TRIGGER optional_walk_again AFTER INSERT ON nodes FOR EACH ROW WHEN (NEW.gc_protocol < 2) EXECUTE FUNCTION optional_walk_again();
