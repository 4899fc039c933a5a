-- name: job_span
-- The direct lane sends without a submission, and a submission may be refused without an answer.
SELECT least((SELECT min(intended_at) FROM submissions), (SELECT min(happened_at) FROM attempts)),
       (SELECT max(happened_at) FROM attempts)
