import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { createHmac } from 'node:crypto';
import { chownSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { accessPage, policyAnswer } from '../../shared/protocol/operator.ts';
import { run, runOk, type Child } from '../kit/child.ts';
import { asUser, curl, psql, startNginx, type CurlAnswer } from '../kit/programs.ts';
import { denialBody, Shop, SHOP_USERS } from '../kit/shop.ts';
import { TokenIssuer } from '../kit/token-issuer.ts';
import { waitUntil } from '../kit/wait.ts';

/** What a policy may go by beside identities and requests: the clock of a zone, networks, the user, and what nobody knows of devices and risk. */

setDefaultTimeout(120_000);

const { web, reports } = SHOP_USERS;
/** Every host of a test network has the same addresses each time. */
const ADDRESS = { desk: '10.9.0.3', outsider: '10.9.0.4' };
const KEYS_PORT = 8443;
const ISSUER = 'https://login.example.org';
const FILE_ISSUER = 'https://files.example.org';

let shop: Shop;
let nginx: Child;
let folder: string;
const byUrl = new TokenIssuer(ISSUER);
const byFile = new TokenIssuer(FILE_ISSUER);

beforeAll(async () => {
  byUrl.addKey('one');
  byFile.addKey('file', 'RS256');
  folder = `/tmp/picket-context-${process.pid}`;
  mkdirSync(folder, { recursive: true, mode: 0o755 });
  await makeCertificate();
  writeFileSync(join(folder, 'file-keys.json'), byFile.keySet);
  shop = await Shop.open({
    settings: {
      networks: {
        desks: [`${ADDRESS.desk}/32`],
        outsiders: [`${ADDRESS.outsider}/31`],
        elsewhere: ['198.51.100.0/24', '::/0'],
      },
      users: {
        issuers: [
          {
            name: 'corp',
            issuer: ISSUER,
            audiences: ['shop'],
            refresh_seconds: 10,
            keys_url: `https://${ADDRESS.outsider}:${KEYS_PORT}/keys`,
            keys_ca_file: join(folder, 'tls.pem'),
          },
          {
            name: 'files',
            issuer: FILE_ISSUER,
            audiences: ['shop'],
            keys_file: join(folder, 'file-keys.json'),
          },
        ],
      },
    },
  });
  expect([shop.desk.host.ipv4, shop.outsider.ipv4]).toEqual([ADDRESS.desk, ADDRESS.outsider]);
  await serveKeys();
  await publish('context', policy());
  // The policy that was in force before lets web in without a token.
  await waitUntil('the policy is in force', async () => (await ask('/invoices/user')) === 403);
  await waitUntil(
    'the keys are there',
    async () => (await askAs(byUrl.sign({ sub: 'alice' }))) === 200,
    60_000,
  );
}, 180_000);
afterAll(async () => {
  await nginx?.stop();
  await shop?.close();
  await run(['rm', '-rf', folder]);
});

async function makeCertificate(): Promise<void> {
  const [certificate, key] = [join(folder, 'tls.pem'), join(folder, 'tls.key')];
  const kind = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2'];
  const names = ['-subj', '/CN=keys', '-addext', `subjectAltName=IP:${ADDRESS.outsider}`];
  await runOk(['openssl', 'req', '-x509', ...kind, ...names, '-keyout', key, '-out', certificate]);
}

/** nginx of the outsider: the key set of the issuer, by HTTPS. */
async function serveKeys(): Promise<void> {
  const place = join(folder, 'nginx');
  mkdirSync(place, { recursive: true });
  chownSync(join(folder, 'tls.key'), 33, 33);
  writeFileSync(join(folder, 'url-keys.json'), byUrl.keySet);
  nginx = await startNginx(shop.outsider, {
    folder: place,
    listen: ['80', `${KEYS_PORT} ssl`],
    locations: `ssl_certificate ${folder}/tls.pem; ssl_certificate_key ${folder}/tls.key;
      location /keys { default_type application/json; alias ${folder}/url-keys.json; }`,
  });
}

/** Zones around the world; the one that is chosen has no midnight near. */
function zoneByDay(): { readonly zone: string; readonly hour: number; readonly weekday: string } {
  for (const zone of ['Asia/Kathmandu', 'America/St_Johns', 'Pacific/Chatham']) {
    const parts = new Intl.DateTimeFormat('en-US', {
      timeZone: zone,
      hour: 'numeric',
      hourCycle: 'h23',
      weekday: 'long',
    }).formatToParts(Date.now());
    const of = (type: string): string => parts.find((part) => part.type === type)?.value ?? '';
    const hour = Number(of('hour'));
    if (hour >= 2 && hour <= 21) return { zone, hour, weekday: of('weekday') };
  }
  throw new Error('It is near midnight everywhere');
}

function policy(): string {
  const { zone, hour, weekday } = zoneByDay();
  return `package picket.authz

allow if granted

else := {"allowed": false, "reason": sprintf("user: %s", [input.user.reason])}

default granted := false

from_web if {
	input.caller.path == "/web"
	input.target.path == "/invoices"
	input.request.method == "GET"
}

path := input.request.path

granted if {
	from_web
	path == "/invoices/zone"
	[hour, _, _] := time.clock([input.context.time_ns, "${zone}"])
	hour >= ${hour}
	hour <= ${hour + 1}
	time.weekday([input.context.time_ns, "${zone}"]) == "${weekday}"
}

granted if {
	from_web
	path == "/invoices/zone-later"
	[hour, _, _] := time.clock([input.context.time_ns, "${zone}"])
	hour > ${hour + 1}
}

granted if {
	from_web
	path == "/invoices/zone-nowhere"
	time.clock([input.context.time_ns, "Nowhere/City"])
}

granted if {
	from_web
	path == "/invoices/desks"
	input.context.networks.desks
	input.context.networks.elsewhere == false
}

granted if {
	from_web
	path == "/invoices/elsewhere"
	input.context.networks.elsewhere
}

granted if {
	from_web
	path == "/invoices/unnamed"
	input.context.networks.unnamed == false
}

granted if {
	not input.caller.spiffe_id
	path == "/invoices/outsiders"
	input.context.networks.outsiders
}

granted if {
	from_web
	path == "/invoices/user"
	input.user.verified
	startswith(input.user.id, "corp:")
}

granted if {
	from_web
	path == "/invoices/ops"
	"ops" in input.user.groups
	input.user.claims.amr == ["mfa"]
}

granted if {
	from_web
	path == "/invoices/root"
	input.user.subject == "root"
}

granted if {
	from_web
	path == "/invoices/managed"
	input.device.managed
}

granted if {
	from_web
	path == "/invoices/trusted"
	input.device.trust_tier > 0
}

granted if {
	from_web
	path == "/invoices/low-risk"
	input.context.risk.score < 50
}

granted if {
	from_web
	path == "/invoices/no-risk"
	not input.context.risk.score >= 50
}

granted if {
	from_web
	path == "/invoices/header"
	input.request.headers["x-team"] == "blue"
}
`;
}

async function publish(name: string, rego: string): Promise<void> {
  const place = join(shop.folder, name);
  mkdirSync(place, { recursive: true });
  writeFileSync(join(place, 'policy.rego'), rego);
  await shop.mesh.control.picketOk('policy', 'publish', place, '-m', name);
}

async function ask(path: string, ...args: readonly string[]): Promise<number> {
  return (await shop.ask(web, path, ...args)).status;
}

async function askAs(token: string, path = '/invoices/user'): Promise<number> {
  return (await answerTo(token, path)).status;
}

async function answerTo(token: string, path = '/invoices/user'): Promise<CurlAnswer> {
  return await shop.ask(web, path, '-H', `authorization: Bearer ${token}`);
}

const encode = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString('base64url');

test('the clock of a zone decides, by hour and weekday, and none of a zone that there is not', async () => {
  expect(await ask('/invoices/zone')).toBe(200);
  expect(await ask('/invoices/zone-later')).toBe(403);
  expect(await ask('/invoices/zone-nowhere')).toBe(403);
});

describe('the network of origin', () => {
  test('is where the caller’s packets come from', async () => {
    expect(await ask('/invoices/desks')).toBe(200);
    expect(await ask('/invoices/elsewhere')).toBe(403);
    const plain = await curl(shop.outsider, {
      uid: web,
      args: [`http://${shop.store.host.ipv4}/invoices/outsiders`],
    });
    expect(plain.status).toBe(200);
    const meshed = await shop.ask(web, '/invoices/outsiders');
    expect(meshed.status).toBe(403);
  });

  test('is not what the caller says', async () => {
    const lies = ['X-Forwarded-For', 'X-Real-IP', 'X-Envoy-External-Address', 'True-Client-IP'].flatMap(
      (name) => ['-H', `${name}: 198.51.100.7`],
    );
    expect(await ask('/invoices/elsewhere', ...lies, '-H', 'Forwarded: for=198.51.100.7')).toBe(403);
  });

  test('is neither in nor out of a network that the host does not know', async () => {
    expect(await ask('/invoices/unnamed')).toBe(403);
  });
});

test('headers decide, and none that repeats another’s name gets past', async () => {
  expect(await ask('/invoices/header', '-H', 'X-Team: blue')).toBe(200);
  expect(await ask('/invoices/header', '-H', 'X-Team: red', '-H', 'x-team: blue')).toBe(403);
});

test('what nobody knows of device and risk allows nothing, however it is asked', async () => {
  for (const path of ['managed', 'trusted', 'low-risk', 'no-risk'])
    expect([path, await ask(`/invoices/${path}`)]).toEqual([path, 403]);
});

describe('the user', () => {
  test('is known by a token of an issuer whose keys come from a server, or from a file', async () => {
    const alice = { sub: 'alice', groups: ['ops'], amr: ['mfa'] };
    expect(await askAs(byUrl.sign(alice))).toBe(200);
    expect(await askAs(byUrl.sign(alice), '/invoices/ops')).toBe(200);
    expect(await askAs(byUrl.sign({ ...alice, groups: ['dev'] }), '/invoices/ops')).toBe(403);
    expect(await askAs(byFile.sign(alice), '/invoices/ops')).toBe(200);
    // Another issuer's alice.
    expect(await askAs(byFile.sign(alice))).toBe(403);
    const recorded = await waitUntil('the user stands in the record', async () => {
      const page = await shop.mesh.control.picketJson(accessPage, 'audit', 'access', '--limit', '200');
      return page.items.find(({ path, user_id }) => path === '/invoices/ops' && user_id === 'files:alice');
    });
    expect(recorded).toMatchObject({ decision: 'allow', direction: 'inbound' });
  });

  test('is nobody by a token that is forged, for others, over, or none, and the answer says why', async () => {
    const good = byUrl.sign({ sub: 'alice' });
    const [header = '', payload = '', signature = ''] = good.split('.');
    const root = encode({ iss: ISSUER, aud: 'shop', sub: 'root', exp: 4_102_444_800 });
    const hs256 = encode({ alg: 'HS256', kid: 'one' });
    const hmac = createHmac('sha256', byUrl.publicPem('one')).update(`${hs256}.${root}`).digest('base64url');
    const stranger = new TokenIssuer(ISSUER);
    stranger.addKey('one');
    const cases: readonly (readonly [token: string, reason: string])[] = [
      [`${encode({ alg: 'none', kid: 'one' })}.${root}.`, 'token_refused'],
      [`${hs256}.${root}.${hmac}`, 'token_refused'],
      [`${header}.${root}.${signature}`, 'signature_invalid'],
      [`${header}.${payload}.`, 'signature_invalid'],
      [stranger.sign({ sub: 'root' }), 'signature_invalid'],
      [byUrl.sign({ sub: 'root', aud: 'warehouse' }), 'audience_wrong'],
      [byUrl.sign({ sub: 'root', exp: 1 }), 'expired'],
      [byUrl.sign({ sub: 'root', nbf: 4_102_444_800 }), 'not_yet_valid'],
      [byUrl.sign({ sub: 'root', iss: 'https://evil.example' }), 'issuer_unknown'],
      [byUrl.sign({ sub: 'root', iss: FILE_ISSUER }), 'key_unknown'],
      [byUrl.sign({ sub: 'root' }, { kid: 'unheard-of' }), 'key_unknown'],
      [byUrl.sign({ sub: 'root', filler: 'x'.repeat(20_000) }), 'token_malformed'],
      ['nonsense', 'token_malformed'],
    ];
    for (const [token, reason] of cases) {
      const { status, body } = await answerTo(token, '/invoices/root');
      expect([status, denialBody.parse(JSON.parse(body)).message, token]).toEqual([
        403,
        `user: ${reason}`,
        token,
      ]);
    }
    const twice = ['-H', `authorization: Bearer ${good}`, '-H', `authorization: Bearer ${good}`];
    expect(await ask('/invoices/user', ...twice)).toBe(403);
    expect(await ask('/invoices/user')).toBe(403);
    expect(await ask('/invoices/user', '-H', 'x-user: alice', '-H', 'x-forwarded-user: alice')).toBe(403);
    expect(await askAs(good)).toBe(200);
    expect(await shop.store.metric('picket_user_tokens_total{outcome="signature_invalid"}')).toBeGreaterThan(
      0,
    );
  });

  test('is known by a new key of the issuer, and by no old one', async () => {
    const old = byUrl.sign({ sub: 'alice' }, { kid: 'one' });
    expect(await askAs(old)).toBe(200);
    byUrl.addKey('two', 'EdDSA');
    const fresh = byUrl.sign({ sub: 'alice' }, { kid: 'two' });
    expect(await askAs(fresh)).toBe(403);
    writeFileSync(join(folder, 'url-keys.json'), byUrl.keySet);
    await waitUntil('the new key counts', async () => (await askAs(fresh)) === 200, 60_000);
    expect(await askAs(old)).toBe(200);
    byUrl.removeKey('one');
    writeFileSync(join(folder, 'url-keys.json'), byUrl.keySet);
    await waitUntil('the old key counts no more', async () => (await askAs(old)) === 403, 60_000);
    expect(await askAs(fresh)).toBe(200);
  });

  test('is nobody while the issuer’s keys cannot be had, and doctor says so', async () => {
    const token = byUrl.sign({ sub: 'alice' });
    await nginx.stop();
    await shop.store.stop();
    await shop.store.start();
    await waitUntil('others pass', async () => (await ask('/invoices/desks')) === 200, 60_000);
    const { status, body } = await answerTo(token);
    expect([status, denialBody.parse(JSON.parse(body)).message]).toEqual([403, 'user: keys_unavailable']);
    expect(await askAs(byFile.sign({ sub: 'bob', groups: ['ops'], amr: ['mfa'] }), '/invoices/ops')).toBe(
      200,
    );
    const { stdout } = await shop.store.picket(['doctor', '--role', 'agent']);
    expect(stdout).toContain('no keys of corp');
    await serveKeys();
    await waitUntil('the keys are there again', async () => (await askAs(token)) === 200, 90_000);
    expect((await shop.store.picket(['agent', 'status'])).stdout).toContain('corp: 1 keys');
  });
});

test('evaluate says what would be decided of a user, in a network, at a time', async () => {
  const decide = async (path: string, ...args: readonly string[]): Promise<string> => {
    const ends = ['--caller', 'spiffe://example.org/web', '--target-id', 'spiffe://example.org/invoices'];
    const request = ['--method', 'GET', '--path', path];
    const answer = await shop.mesh.control.picketJson(
      policyAnswer,
      'policy',
      'evaluate',
      ...ends,
      ...request,
      ...args,
    );
    return answer.decision;
  };
  const claims = JSON.stringify({ sub: 'a', groups: ['ops'], amr: ['mfa'] });
  expect(await decide('/invoices/ops', '--user', claims)).toBe('allow');
  expect(await decide('/invoices/ops')).toBe('deny');
  expect(await decide('/invoices/ops', '--user', JSON.stringify({ sub: 'a', exp: 1 }))).toBe('deny');
  expect(await decide('/invoices/user', '--user', claims, '--user-issuer', 'corp')).toBe('allow');
  const place = ['--in-network', 'desks', '--outside-network', 'elsewhere'];
  expect(await decide('/invoices/desks', ...place)).toBe('allow');
  expect(await decide('/invoices/desks', '--in-network', 'desks')).toBe('deny');
  expect(await decide('/invoices/zone')).toBe('allow');
  const other = new Date(Date.now() + 4 * 3_600_000).toISOString();
  expect(await decide('/invoices/zone', '--at', other)).toBe('deny');
  const bad = await shop.mesh.control.picket('policy', 'evaluate', '--user', 'alice');
  expect(bad.exitCode).toBe(2);
  expect(bad.stderr).toContain('claims of a user');
});

describe('what is open', () => {
  test('is cut when the time that it was allowed for is over, and nothing else is', async () => {
    const endMs = Date.now() + 25_000;
    await publish(
      'until',
      `package picket.authz

default allow := false

allow if {
	input.caller.path == "/reports"
	time.now_ns() < ${endMs}000000
}

allow if {
	input.caller.path == "/web"
	input.request.method in {"GET", "PUT"}
	input.user.verified
}
`,
    );
    await waitUntil(
      'it is in force',
      async () => (await askAs(byUrl.sign({ sub: 'x' }), '/invoices')) === 200,
    );
    const expiresMs = (Math.floor(Date.now() / 1000) + 20) * 1000;
    const upload = ['-H', `authorization: Bearer ${byUrl.sign({ sub: 'short', exp: expiresMs / 1000 })}`];
    const lasting = ['-H', `authorization: Bearer ${byUrl.sign({ sub: 'long' })}`];
    const [query, cut, kept] = await Promise.all([
      timed(
        psql(shop.desk.host, {
          uid: reports,
          server: shop.store.host.ipv4,
          sql: 'select pg_sleep(160)',
          withinMs: 170_000,
        }),
      ),
      timed(putSlowly('cut', 90, upload)),
      timed(putSlowly('kept', 40, lasting)),
    ]);
    expect(query.result.stderr).toContain('server closed the connection');
    expect(query.endedMs).toBeGreaterThanOrEqual(endMs);
    expect(cut.result).not.toBe(201);
    expect(cut.endedMs).toBeGreaterThanOrEqual(expiresMs);
    expect(kept.result).toBe(201);
    expect((await shop.query(reports)).exitCode).not.toBe(0);
    for (const target of ['/database', '/invoices'])
      await waitUntil(`the cut of ${target} stands in the record`, async () => {
        const page = await shop.mesh.control.picketJson(
          accessPage,
          'audit',
          'access',
          '--limit',
          '50',
          '--decision',
          'deny',
          '--target',
          `spiffe://example.org${target}`,
        );
        return page.items.find(({ reason, ts }) => reason === 'policy_deny' && Date.parse(ts) >= expiresMs);
      });
  }, 180_000);
});

async function timed<T>(work: Promise<T>): Promise<{ readonly result: T; readonly endedMs: number }> {
  const result = await work;
  return { result, endedMs: Date.now() };
}

/** An upload that takes so many seconds; the status of its answer, 0 for none. */
async function putSlowly(name: string, seconds: number, headers: readonly string[]): Promise<number> {
  const url = `http://${shop.store.host.ipv4}/upload/${name}`;
  const more = headers.map((word) => `'${word}'`).join(' ');
  const script = `(for i in $(seq ${seconds}); do echo line; sleep 1; done) | curl -s -o /dev/null -w '%{http_code}' -T - ${more} ${url}`;
  const command = shop.desk.host.in(...asUser(web, 'bash', '-c', script));
  const { stdout } = await run(command, { cwd: '/', withinMs: (seconds + 60) * 1000 });
  return Number(stdout);
}
