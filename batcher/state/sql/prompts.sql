-- name: prompt_totals
-- Of each prompt: when it was first planned with, the lines that have it now, its judged answers and those that were accepted,
-- what its answers have cost, how many of them have no known price, and the bios that exist of it.
SELECT p.prompt, p.created_at, coalesce(a.lines, 0), coalesce(t.judged, 0), coalesce(t.accepted, 0), coalesce(t.usd, 0),
       coalesce(t.unpriced, 0), coalesce(b.bios, 0)
FROM (SELECT prompt, min(created_at) AS created_at FROM versions GROUP BY prompt) AS p
LEFT JOIN (SELECT v.prompt, sum(n)::BIGINT AS lines
           FROM (SELECT version, count(*) AS n FROM artists GROUP BY version) JOIN versions AS v USING (version)
           GROUP BY v.prompt) AS a USING (prompt)
LEFT JOIN (SELECT v.prompt, sum(judged)::BIGINT AS judged, sum(accepted)::BIGINT AS accepted, sum(usd) AS usd,
                  sum(unpriced)::BIGINT AS unpriced
           FROM (SELECT version, count(*) FILTER (outcome IN ('bio', 'unusable')) AS judged,
                        count(*) FILTER (outcome = 'bio') AS accepted, coalesce(sum(cost_usd), 0) AS usd,
                        count(*) FILTER (cost_usd IS NULL AND tokens_input > 0) AS unpriced
                 FROM attempts GROUP BY version) JOIN versions AS v USING (version)
           GROUP BY v.prompt) AS t USING (prompt)
LEFT JOIN (SELECT v.prompt, sum(n)::BIGINT AS bios
           FROM (SELECT version, count(*) AS n FROM bios GROUP BY version) JOIN versions AS v USING (version)
           GROUP BY v.prompt) AS b USING (prompt)
ORDER BY p.prompt
