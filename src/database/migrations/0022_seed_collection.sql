-- SPDX-FileCopyrightText: 2026 The ha-registry authors
-- SPDX-License-Identifier: EUPL-1.2

-- What is there already is looked at by the collector as well. Apart from the triggers (0021), so that nobody who writes waits for it: what is written meanwhile is in the
-- queues twice, which does no harm.

INSERT INTO gc_links (repository_id, digest, due) SELECT repository_id, digest, due_at FROM repository_blobs;
INSERT INTO gc_manifests (repository_id, digest, due) SELECT repository_id, digest, due_at FROM manifests;
INSERT INTO gc_blobs (digest, uuid, due)
SELECT digest, uuid, clock_timestamp() FROM blobs b WHERE NOT EXISTS (SELECT 1 FROM repository_blobs rb WHERE rb.digest = b.digest AND rb.uuid = b.uuid);
