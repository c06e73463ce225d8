import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { accessPage } from '../../../shared/protocol/operator.ts';
import { spiffeServerName } from '../../../shared/spiffe/server-name.ts';
import { parseSpiffeId } from '../../../shared/spiffe/spiffe-id.ts';
import { Shop } from '../../kit/shop.ts';
import type { TestCertificate } from '../../kit/test-authority.ts';
import { waitUntil } from '../../kit/wait.ts';
import {
  issueLeaf,
  opening,
  readIntermediate,
  signIntermediate,
  tryMesh,
  type MeshAnswer,
  type MeshAttempt,
} from './mesh-client.ts';

/** Sessions that outlive what they stood on: a certificate that ends, an authority that is withdrawn. OpenSSL resumes them; the agent does not believe them. */

setDefaultTimeout(120_000);

const WEB = 'spiffe://example.org/web';
const INVOICES = spiffeServerName(parseSpiffeId('spiffe://example.org/invoices'));
/** For an answer, which ends the waiting; for the cut of a connection that is open, while the server is started anew. */
const PATIENT_SECONDS = 40;
const UNTRUSTED = { type: 'reset', reasonCode: 12 } as const;
/** A request that leaves the connection open. */
const GET = 'GET /invoices HTTP/1.1\r\nHost: shop\r\n\r\n';
let shop: Shop;
let attempts = 0;

beforeAll(async () => {
  shop = await Shop.open();
}, 120_000);
afterAll(async () => await shop.close());

interface Shown {
  readonly answer: MeshAnswer;
  /** Whether the session was resumed: the called side sends its certificate in a full handshake alone. */
  readonly isResumed: boolean;
}

async function show(
  chain: readonly TestCertificate[],
  change: Partial<MeshAttempt> & { readonly options?: readonly string[] } = {},
): Promise<Shown> {
  const messages = join(shop.folder, `messages-${++attempts}`);
  const answer = await tryMesh({
    from: shop.outsider,
    to: shop.store.host,
    serverName: INVOICES,
    send: opening(shop.store.host.ipv4, 80),
    credentials: { chain },
    seconds: PATIENT_SECONDS,
    endsOnAccept: change.request === undefined,
    ...change,
    options: ['-msg', '-msgfile', messages, ...(change.options ?? [])],
  });
  return { answer, isResumed: !/<<< .*, Certificate$/m.test(readFileSync(messages, 'utf8')) };
}

function expectTaken({ answer, isResumed }: Shown, wasResumed: boolean): void {
  expect(answer.frames[0]).toEqual({ type: 'accept' });
  expect(isResumed).toBe(wasResumed);
}

function expectRefused({ answer, isResumed }: Shown, wasResumed: boolean): void {
  expect(answer.frames[0]).toMatchObject(UNTRUSTED);
  expect(isResumed).toBe(wasResumed);
}

describe('a resumed session', () => {
  test('does not outlive the certificate that it began with', async () => {
    const intermediate = await signIntermediate(shop.mesh.control);
    const session = join(shop.folder, 'brief.pem');
    // Two handshakes fit into it, on a busy machine too.
    const notAfterMs = Math.floor(Date.now() / 1000 + 10) * 1000;
    const chain = [await issueLeaf(intermediate, WEB, { notAfterMs }), intermediate];
    expectTaken(await show(chain, { options: ['-sess_out', session] }), false);
    expectTaken(await show(chain, { options: ['-sess_in', session] }), true);
    await waitUntil('the certificate has ended', () => Date.now() > notAfterMs);
    expectRefused(await show(chain, { options: ['-sess_in', session] }), true);
  });

  test('does not outlive the authority of its certificate, and neither does a connection that is open', async () => {
    const { control } = shop.mesh;
    const folder = join(control.folder, 'other-ca');
    const passphrase = join(control.folder, 'root.passphrase');
    const init = ['ca', 'init', '--trust-domain', 'example.org', '--out', folder];
    await control.picketOk(...init, '--passphrase-file', passphrase);
    const intermediate = await readIntermediate(folder);
    const chain = [await issueLeaf(intermediate, WEB), intermediate];
    expectRefused(await show(chain), false);

    const bundle = join(control.folder, 'ca/online/bundle.pem');
    const alone = readFileSync(bundle, 'utf8');
    await serveBundle(bundle, alone + readFileSync(join(folder, 'root.pem'), 'utf8'));
    await waitUntil(
      'the host believes it',
      async () => (await show(chain)).answer.frames[0]?.type === 'accept',
    );
    const session = join(shop.folder, 'withdrawn.pem');
    expectTaken(await show(chain, { options: ['-sess_out', session] }), false);
    expectTaken(await show(chain, { options: ['-sess_in', session] }), true);
    const served = await shop.countNginxRequests();
    const open = show(chain, { request: dataFrame(GET) });
    await waitUntil('it is open', async () => (await shop.countNginxRequests()) > served);

    await serveBundle(bundle, alone);
    const { answer } = await open;
    expect(answer.data).toStartWith('HTTP/1.1 200');
    expect(answer.frames).toMatchObject([{ type: 'accept' }, UNTRUSTED]);
    await waitUntil('the cut stands in the record of the called host', async () => {
      const query = ['audit', 'access', '--caller', WEB, '--decision', 'deny'];
      const { items } = await control.picketJson(accessPage, ...query);
      return items.some(({ direction, reason }) => direction === 'inbound' && reason === 'caller_untrusted');
    });
    expectRefused(await show(chain, { options: ['-sess_in', session] }), true);
    expectRefused(await show(chain), false);
  });
});

/** The server's next start knows these roots. */
async function serveBundle(file: string, pem: string): Promise<void> {
  writeFileSync(file, pem);
  await shop.mesh.control.stop();
  await shop.mesh.control.start();
}

function dataFrame(text: string): Uint8Array {
  return Buffer.concat([Uint8Array.of(4, 0, 0, text.length), Buffer.from(text)]);
}
