import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { createPrivateKey, webcrypto, X509Certificate } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  accessPage,
  operatorActionPage,
  policyAnswer,
  workloadCertificates,
} from '../../shared/protocol/operator.ts';
import { encodePem } from '../../shared/wire/pem.ts';
import { run, runOk } from '../kit/child.ts';
import { OperatorClient, refusalBody } from '../kit/operator-client.ts';
import { asUser } from '../kit/programs.ts';
import { Shop, SHOP_USERS } from '../kit/shop.ts';
import { authorityProfile, leafProfile, makeCertificate } from '../kit/test-authority.ts';
import { waitUntil } from '../kit/wait.ts';
import { WorkloadClient, x509SvidAnswer } from '../kit/workload-client.ts';

/** Who may administer a running server, from where and with what, by curl and by the command line. */

setDefaultTimeout(60_000);

const WEB = 'spiffe://example.org/web';
const INVOICES = 'spiffe://example.org/invoices';
let shop: Shop;
let admin: OperatorClient;
let auditor: OperatorClient;

async function operator(name: string, ...roles: string[]): Promise<OperatorClient> {
  return await OperatorClient.create(shop.mesh.control, { host: shop.outsider, name, roles });
}

beforeAll(async () => {
  shop = await Shop.open();
  admin = await operator('alice', 'admin');
  auditor = await operator('oscar', 'auditor');
}, 120_000);
afterAll(async () => await shop.close());

const newEntry = (path: string): unknown => ({
  spiffeId: `spiffe://example.org/${path}`,
  parentId: 'spiffe://example.org/picket/agent/join_token/desk',
  selectors: ['unix:uid:7100'],
});

async function newestAction(): Promise<unknown> {
  const { items } = operatorActionPage.parse((await admin.curl('/audit/operators?limit=1')).body);
  return items[0];
}

describe('the local socket', () => {
  test('turns away who is not root', async () => {
    const { socket } = shop.mesh.control;
    const ask = async (uid: number): Promise<string> => {
      const curl = [
        'curl',
        '-s',
        '-m',
        '5',
        '-w',
        '%{http_code}',
        '-o',
        '/dev/null',
        '--unix-socket',
        socket,
      ];
      return (await run(asUser(uid, ...curl, 'http://picket/nodes'), { cwd: '/' })).stdout;
    };
    expect(await ask(0)).toBe('200');
    expect(await ask(SHOP_USERS.web)).not.toBe('200');
  });
});

describe('an operator with a client certificate', () => {
  test('administers from elsewhere, by curl that verifies the server’s name and by the command line', async () => {
    const { status, body } = await admin.curl('/nodes');
    expect(status).toBe(200);
    expect(JSON.stringify(body)).toContain('/picket/agent/join_token/desk');
    expect(await admin.picketOk('node', 'list')).toContain('/picket/agent/join_token/store');
    const { status: created } = await admin.post('/entries', newEntry('by-alice'));
    expect(created).toBe(201);
    expect(await newestAction()).toMatchObject({
      actor: 'spiffe://example.org/picket/operator/alice',
      action: 'entry.create',
      subject: 'spiffe://example.org/by-alice',
      decision: 'allow',
    });
  });

  test('may do what the roles allow and nothing else; the refusal is recorded too', async () => {
    expect((await auditor.curl('/entries')).status).toBe(200);
    const { status, body } = await auditor.post('/entries', newEntry('by-oscar'));
    expect(status).toBe(403);
    expect(refusalBody.parse(body)).toMatchObject({ code: 'permission_denied' });
    expect(await newestAction()).toMatchObject({
      actor: 'spiffe://example.org/picket/operator/oscar',
      action: 'entry.create',
      decision: 'deny',
    });
    expect(await admin.picketOk('entry', 'list')).not.toContain('by-oscar');
    const told = await auditor.picket('token', 'create', 'host');
    expect(told.exitCode).toBe(3);
    expect(told.stderr).toContain('token.create');
  });

  test('may do what an admin policy of one’s own allows, until the next one is published; root on the socket stands above it', async () => {
    const { control } = shop.mesh;
    const publish = async (name: string, rego: string): Promise<string> => {
      const file = join(shop.folder, `${name}.rego`);
      writeFileSync(file, `package picket.admin\n\n${rego}\n`);
      return await control.picketOk('policy', 'publish', file, '--target', 'admin', '-m', name);
    };
    await publish('readers', 'default allow := false\n\nallow if endswith(input.action, ".list")');
    expect((await admin.curl('/nodes')).status).toBe(200);
    expect((await admin.post('/entries', newEntry('too-late'))).status).toBe(403);
    const own = 'allow if {\n\tinput.operator.name == "oscar"\n\tinput.action == "entry.create"\n}';
    await publish('oscar', `default allow := false\n\n${own}`);
    expect((await auditor.post('/entries', newEntry('by-oscar-now'))).status).toBe(201);
    expect((await admin.curl('/nodes')).status).toBe(403);
    expect(await control.picketOk('entry', 'list')).toContain('by-oscar-now');
    await publish(
      'as it was',
      readFileSync(join(import.meta.dirname, '../../policies/admin/admin.rego'), 'utf8').replace(
        /^package.*$/m,
        '',
      ),
    );
    expect((await admin.curl('/nodes')).status).toBe(200);
    expect((await auditor.post('/entries', newEntry('by-oscar-again'))).status).toBe(403);
  });

  test('is refused from the moment that it is revoked', async () => {
    const mallory = await operator('mallory', 'admin');
    expect((await mallory.curl('/nodes')).status).toBe(200);
    await admin.picketOk('operator', 'revoke', 'mallory');
    const { status, body } = await mallory.curl('/nodes');
    expect([status, refusalBody.parse(body).reason]).toEqual([401, 'operator_unknown']);
  });
});

/** DER certificates one after another (SPIFFE Workload API 5.2.1), as PEM. */
function pemOfChain(chain: Uint8Array): string {
  let pem = '';
  for (let rest = chain; rest.length > 0;) {
    const { raw } = new X509Certificate(rest);
    pem += encodePem('CERTIFICATE', raw);
    rest = rest.subarray(raw.length);
  }
  return pem;
}

describe('port 8444 turns away', () => {
  const reasonFor = async (client: OperatorClient): Promise<unknown> => {
    const { status, body } = await client.curl('/nodes');
    return [status, refusalBody.parse(body).reason];
  };
  const withFiles = (name: string, pem: { readonly cert: string; readonly key: string }): OperatorClient => {
    const cert = join(shop.folder, `${name}.crt`);
    const key = join(shop.folder, `${name}.key`);
    writeFileSync(cert, pem.cert);
    writeFileSync(key, pem.key);
    const bundle = shop.mesh.control.bundleFile;
    return new OperatorClient(shop.mesh.control, shop.outsider, { cert, key, bundle });
  };

  test('who has no certificate', async () => {
    const client = new OperatorClient(shop.mesh.control, shop.outsider);
    expect(await reasonFor(client)).toEqual([401, 'certificate_missing']);
  });

  test('an operator of another authority that names itself the same', async () => {
    const nowMs = Date.now();
    const lives = { notBeforeMs: nowMs - 60_000, notAfterMs: nowMs + 3_600_000 };
    const authority = await makeCertificate({ ...authorityProfile('example.org'), ...lives });
    const profile = { ...leafProfile('spiffe://example.org/picket/operator/alice'), ...lives };
    const { der, keys } = await makeCertificate(profile, authority);
    const key = new Uint8Array(await webcrypto.subtle.exportKey('pkcs8', keys.privateKey));
    const client = withFiles('foreign', {
      cert: encodePem('CERTIFICATE', der),
      key: encodePem('PRIVATE KEY', key),
    });
    expect(await reasonFor(client)).toEqual([401, 'certificate_untrusted']);
  });

  test('a workload with the certificate that the Workload API gives it', async () => {
    const workloads = await WorkloadClient.build(shop.folder);
    const command = workloads.command(shop.desk, SHOP_USERS.web, 'FetchX509SVID', 1);
    const [svid] = x509SvidAnswer.parse(JSON.parse(await runOk(command, { cwd: '/' }))).svids;
    const read = (text = ''): Uint8Array => Buffer.from(text, 'base64');
    const client = withFiles('workload', {
      cert: pemOfChain(read(svid?.x509_svid)),
      key: encodePem('PRIVATE KEY', read(svid?.x509_svid_key)),
    });
    expect(await reasonFor(client)).toEqual([401, 'identity_not_accepted']);
  });

  test('who shows an operator’s certificate without its key', async () => {
    const other = createPrivateKey(readFileSync(auditor.files!.key));
    const client = withFiles('stolen', {
      cert: readFileSync(admin.files!.cert, 'utf8'),
      key: other.export({ format: 'pem', type: 'pkcs8' }),
    });
    expect((await client.curl('/nodes')).status).toBe(0);
  });
});

describe('the API', () => {
  test('evaluates a hypothetical request by GET and by POST', async () => {
    const query = `caller=${encodeURIComponent(WEB)}&target=${encodeURIComponent(INVOICES)}&method=GET`;
    const byGet = await auditor.curl(`/policies/evaluate?${query}&path=/invoices`);
    expect(policyAnswer.parse(byGet.body)).toMatchObject({ decision: 'allow', version: 1 });
    expect(policyAnswer.parse(byGet.body).rules.map((rule) => rule.file)).toContain('policy.rego');
    const question = { caller: WEB, target: INVOICES, method: 'POST', path: '/refunds', headers: { a: 'b' } };
    const byPost = await auditor.post('/policies/evaluate', question);
    expect(policyAnswer.parse(byPost.body)).toMatchObject({ decision: 'deny', reason: 'policy_deny' });
    expect((await auditor.curl('/policies/evaluate?target=nonsense')).status).toBe(400);
  });

  test('tells the certificates of an identity, percent-encoded in the path', async () => {
    const { status, body } = await auditor.curl(`/workloads/${encodeURIComponent(WEB)}/certificate`);
    expect(status).toBe(200);
    const { certificates } = workloadCertificates.parse(body);
    expect(certificates).toHaveLength(1);
    expect(certificates[0]).toMatchObject({ nodeId: 'spiffe://example.org/picket/agent/join_token/desk' });
    expect((await auditor.curl('/workloads/nonsense/certificate')).status).toBe(400);
  });

  test('pages and filters the record of decisions', async () => {
    for (const path of ['/invoices', '/refunds', '/invoices'])
      await shop.ask(SHOP_USERS.web, path, ...(path === '/refunds' ? ['-X', 'POST'] : []));
    const ask = async (query: string) =>
      accessPage.parse((await auditor.curl(`/audit/access?${query}`)).body);
    const filter = `caller=${encodeURIComponent(WEB)}&target=${encodeURIComponent(INVOICES)}`;
    await waitUntil(
      'the denial is told',
      async () => (await ask(`${filter}&decision=deny`)).items.length > 0,
    );
    const all = await ask(`${filter}&limit=1000`);
    expect(all.items.every((each) => each.caller_spiffe_id === WEB)).toBe(true);
    const paged: string[] = [];
    for (let cursor: string | null = ''; cursor !== null;) {
      const page = await ask(
        `${filter}&limit=2${cursor === '' ? '' : `&cursor=${encodeURIComponent(cursor)}`}`,
      );
      paged.push(...page.items.map((each) => each.decision_id));
      cursor = page.next;
    }
    const known = all.items.map((each) => each.decision_id);
    expect(paged.filter((id) => known.includes(id))).toEqual(known);
    const [newest] = all.items;
    const none = await ask(`${filter}&from=2100-01-01T00:00:00Z`);
    expect(none.items).toEqual([]);
    const before = await ask(`${filter}&to=${encodeURIComponent(newest!.ts)}&limit=1000`);
    expect(before.items.map((each) => each.decision_id)).not.toContain(newest!.decision_id);
    for (const bad of ['decision=maybe', 'from=yesterday', 'cursor=nonsense', 'limit=0', 'caller=x'])
      expect([bad, (await auditor.curl(`/audit/access?${bad}`)).status]).toEqual([bad, 400]);
  });

  test('describes itself to anybody: OpenAPI 3.1 and a page', async () => {
    const anybody = new OperatorClient(shop.mesh.control, shop.outsider);
    const { status, body } = await anybody.curl('/openapi.json');
    expect(status).toBe(200);
    expect(body).toMatchObject({ openapi: '3.1.0' });
    const paths = Object.keys((body as { paths: object }).paths);
    for (const path of ['/entries/{entryId}', '/policies/evaluate', '/audit/access', '/nodes/{nodeId}/ban'])
      expect(paths).toContain(path);
    const page = await anybody.curl('/docs');
    expect(page.status).toBe(200);
    expect(page.body).toContain('<html');
  });
});
