-- The hash of a line is made of what is its own and a digest of the rest. Those that were made of the whole say nothing
-- now; a line without one is not compared when it is rendered again.
UPDATE artists SET line_hash = NULL WHERE line_hash IS NOT NULL;
