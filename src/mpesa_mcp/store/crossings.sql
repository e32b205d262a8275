-- What crosses organizations on PostgreSQL: the twins of `store.crossings`, with the owner's rights.
--
-- Row-level security hides every other organization's rows from the program. These functions look past it, and give
-- organizations, ids and totals only. `db upgrade` makes them anew each time (a change here needs a migration, be it an empty
-- one, so that a program finds a database that lacks it). {schema} is where our tables are; a fixed search_path keeps a
-- caller from slipping tables of its own in; operators and functions would still be found there, so nobody but the owner
-- may create anything in it, which `db upgrade` sees to.

CREATE FUNCTION find_organization(wanted_slug text) RETURNS text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = {schema}, pg_temp AS $$
    SELECT organization_id FROM organizations WHERE slug = wanted_slug
$$;

CREATE FUNCTION list_organizations(later_than text DEFAULT '', most integer DEFAULT NULL)
RETURNS TABLE (organization_id text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = {schema}, pg_temp AS $$
    SELECT o.organization_id FROM organizations AS o
    WHERE o.organization_id > later_than ORDER BY o.organization_id LIMIT most
$$;

CREATE FUNCTION find_key(wanted_hash text) RETURNS TABLE (organization_id text, id text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = {schema}, pg_temp AS $$
    SELECT k.organization_id, k.id FROM api_keys AS k WHERE k.key_hash = wanted_hash
$$;

CREATE FUNCTION find_user(wanted_email text) RETURNS TABLE (organization_id text, id text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = {schema}, pg_temp AS $$
    SELECT u.organization_id, u.id FROM users AS u WHERE u.email = wanted_email
$$;

CREATE FUNCTION find_refresh_token(wanted_hash text) RETURNS TABLE (organization_id text, id text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = {schema}, pg_temp AS $$
    SELECT t.organization_id, t.id FROM refresh_tokens AS t WHERE t.token_sha256 = wanted_hash
$$;

CREATE FUNCTION find_invitation(wanted_hash text) RETURNS TABLE (organization_id text, id text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = {schema}, pg_temp AS $$
    SELECT i.organization_id, i.id FROM invitations AS i WHERE i.token_sha256 = wanted_hash
$$;

CREATE FUNCTION claim_due(queue text, wanted text[], at timestamptz, lease interval, most integer, passing_over text[])
RETURNS TABLE (organization_id text, id text, fence integer)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = {schema}, pg_temp AS $$
BEGIN
    IF queue NOT IN ('payments', 'inquiries', 'callbacks', 'batches') THEN
        RAISE EXCEPTION 'not a queue' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    -- Found once, before anything is taken: a join could look for what is due anew for each row, and take it all.
    RETURN QUERY EXECUTE format(
        'WITH due AS MATERIALIZED (
             SELECT waiting.organization_id, waiting.id FROM %I AS waiting
             WHERE waiting.status = ANY ($1) AND waiting.next_action_at <= $2
               AND (waiting.lease_until IS NULL OR waiting.lease_until <= $2)
               AND waiting.organization_id <> ALL ($5)
             ORDER BY waiting.next_action_at, waiting.id LIMIT $4
             FOR UPDATE SKIP LOCKED
         )
         UPDATE %I AS taken SET lease_until = $2 + $3, fence = taken.fence + 1 FROM due
         WHERE taken.organization_id = due.organization_id AND taken.id = due.id
         RETURNING taken.organization_id::text, taken.id::text, taken.fence',
        queue, queue
    ) USING wanted, at, lease, most, passing_over;
END
$$;

CREATE FUNCTION next_due(queue text, later_than timestamptz) RETURNS timestamptz
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = {schema}, pg_temp AS $$
DECLARE
    found timestamptz;
BEGIN
    IF queue NOT IN ('payments', 'inquiries', 'callbacks', 'batches') THEN
        RAISE EXCEPTION 'not a queue' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    EXECUTE format('SELECT min(next_action_at) FROM %I WHERE next_action_at > $1', queue) INTO found USING later_than;
    RETURN found;
END
$$;

CREATE FUNCTION unsealed_organizations(most integer) RETURNS TABLE (organization_id text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = {schema}, pg_temp AS $$
    SELECT DISTINCT u.organization_id FROM audit_unsealed AS u ORDER BY u.organization_id LIMIT most
$$;

CREATE FUNCTION usage_totals(wanted_month text, later_than text, most integer)
RETURNS TABLE (organization_id text, calls bigint, refused_calls bigint, payments bigint, moved_cents bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = {schema}, pg_temp AS $$
    SELECT counted.organization_id, sum(counted.calls)::bigint, sum(counted.refused)::bigint,
        sum(counted.payments)::bigint, sum(counted.moved_cents)::bigint
    FROM (
        SELECT c.organization_id, c.calls, c.refused, 0 AS payments, 0 AS moved_cents
        FROM usage_calls AS c WHERE c.month = wanted_month AND c.organization_id > later_than
        UNION ALL
        SELECT p.organization_id, 0, 0, p.payments, p.moved_cents
        FROM usage_payments AS p WHERE p.month = wanted_month AND p.organization_id > later_than
    ) AS counted
    GROUP BY counted.organization_id ORDER BY counted.organization_id LIMIT most
$$;

-- The two that the role of `callbacks` may run. A path is both of its segments: the organization's and the attempt's.
-- Everything is found by an index (OFFSET 0 is where the token's comes first): statistics of a moment when the tables
-- were small, or none, would make each call as long as the tables are.

CREATE FUNCTION find_callback_tokens(callback_ids text[], token_hashes text[])
RETURNS TABLE (callback_id text, token_sha256 text, organization_id text, attempt_id text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = {schema}, pg_temp SET enable_seqscan = off AS $$
    SELECT wanted.callback_id, wanted.token_sha256, found.organization_id, found.id
    FROM unnest(callback_ids, token_hashes) AS wanted (callback_id, token_sha256)
    CROSS JOIN LATERAL (
        SELECT a.organization_id, a.id
        FROM (SELECT * FROM attempts AS one WHERE one.callback_token_sha256 = wanted.token_sha256 OFFSET 0) AS a
        JOIN organizations AS o ON o.organization_id = a.organization_id
        WHERE o.callback_id = wanted.callback_id
        LIMIT 1
    ) AS found
$$;

-- A callback has the same place in every array. Asked by the path, not by the attempt's id: who holds this role alone
-- can add only to attempts whose token he was shown. Rows are counted as this transaction sees them: two processes at once
-- may keep a few more than `most`, never fewer. Nothing else is believed of who holds it: not a channel we do not have, not
-- a moment far away, not a body that no callback has.
CREATE FUNCTION store_callbacks(
    callback_ids text[], token_hashes text[], ids text[], channels text[], sources text[], bodies text[],
    moments timestamptz[]
) RETURNS TABLE (id text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = {schema}, pg_temp SET enable_seqscan = off AS $$
DECLARE
    most CONSTANT integer := 20; -- MAX_CALLBACKS in callback_log.py, whose SQLite statements rank alike
    organizations text[];
    attempts text[];
BEGIN
    SELECT array_agg(found.organization_id ORDER BY posted.place), array_agg(found.attempt_id ORDER BY posted.place)
    INTO organizations, attempts
    FROM unnest(callback_ids, token_hashes, channels, bodies) WITH ORDINALITY
        AS posted (callback_id, token_sha256, channel, body, place)
    LEFT JOIN (SELECT DISTINCT * FROM find_callback_tokens(callback_ids, token_hashes)) AS found
        ON found.callback_id = posted.callback_id AND found.token_sha256 = posted.token_sha256
        AND posted.channel IN ('result', 'timeout') AND octet_length(posted.body) <= 262144;

    IF EXISTS (
        SELECT FROM unnest(organizations, attempts, channels) AS path (organization_id, attempt_id, channel)
        WHERE path.attempt_id IS NOT NULL
        GROUP BY path.organization_id, path.attempt_id, path.channel
        HAVING count(*) + (
            SELECT count(*) FROM callbacks AS c WHERE c.organization_id = path.organization_id
                AND c.attempt_id = path.attempt_id AND c.channel = path.channel
        ) > most
    ) THEN
        DELETE FROM callbacks AS gone
        USING (
            SELECT kept.organization_id, kept.id FROM callbacks AS kept
            JOIN (
                SELECT ranked.organization_id, ranked.id
                FROM (
                    SELECT organization_id, attempt_id, channel, count(*) AS coming
                    FROM unnest(organizations, attempts, channels) AS new (organization_id, attempt_id, channel)
                    GROUP BY 1, 2, 3
                ) AS path
                CROSS JOIN LATERAL (
                    SELECT c.organization_id, c.id, c.status, count(*) OVER () + path.coming - most AS excess,
                        row_number() OVER (
                            ORDER BY CASE c.status WHEN 'malformed' THEN 0 WHEN 'mismatched' THEN 0
                                WHEN 'waiting' THEN 1 WHEN 'unconfirmed' THEN 2 WHEN 'applied' THEN 3 ELSE 4 END, c.id DESC
                        ) AS place
                    FROM callbacks AS c
                    WHERE c.organization_id = path.organization_id AND c.attempt_id = path.attempt_id
                        AND c.channel = path.channel
                ) AS ranked
                WHERE ranked.place <= ranked.excess AND ranked.status <> 'stored'
            ) AS surplus ON kept.organization_id = surplus.organization_id AND kept.id = surplus.id
            FOR UPDATE OF kept SKIP LOCKED
        ) AS victim
        WHERE gone.organization_id = victim.organization_id AND gone.id = victim.id;
    END IF;

    RETURN QUERY
    INSERT INTO callbacks AS made
        (organization_id, id, attempt_id, channel, status, received_at, source_address, body, next_action_at, fence)
    SELECT new.organization_id, new.id, new.attempt_id, new.channel, 'stored', at.moment, new.source_address,
        new.body, at.moment, 0
    FROM (
        SELECT incoming.*, row_number() OVER (
            PARTITION BY incoming.organization_id, incoming.attempt_id, incoming.channel ORDER BY incoming.place
        ) + (
            SELECT count(*) FROM callbacks AS c WHERE c.organization_id = incoming.organization_id
                AND c.attempt_id = incoming.attempt_id AND c.channel = incoming.channel
        ) AS number
        FROM unnest(organizations, attempts, ids, channels, sources, bodies, moments) WITH ORDINALITY AS incoming
            (organization_id, attempt_id, id, channel, source_address, body, received_at, place)
        WHERE incoming.attempt_id IS NOT NULL
    ) AS new
    -- A moment that no honest clock says would be waited for, by everybody.
    CROSS JOIN LATERAL (
        SELECT CASE WHEN new.received_at BETWEEN now() - interval '1 year' AND now() + interval '1 hour'
            THEN new.received_at ELSE now() END AS moment
    ) AS at
    WHERE new.number <= most
    ORDER BY new.place
    RETURNING made.id::text;

    IF FOUND THEN
        PERFORM pg_notify('mpesa_mcp', 'callbacks');
    END IF;
END
$$;
