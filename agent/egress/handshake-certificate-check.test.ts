import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'bun:test';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer as createTcpServer, type AddressInfo, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createServer, type TlsOptions } from 'node:tls';
import { FakeClock } from '../../tests/kit/fake-clock.ts';
import { failureOf } from '../../shared/errors/errors.ts';
import { encodePem } from '../../shared/wire/pem.ts';
import { authorityProfile, leafProfile, makeCertificate } from '../../tests/kit/test-authority.ts';
import { makeOutsideCertificate, type OutsideCertificate } from '../../tests/kit/outside-certificate.ts';
import { waitUntil } from '../../tests/kit/wait.ts';
import { readAuthorities } from './authorities.ts';
import { HandshakeCertificateCheck } from './handshake-certificate-check.ts';

/** Against real servers, with certificates of OpenSSL. */

const NAME = 'api.test';

let folder: string;
let authorities: Readonly<Record<string, string>>;
let vouched: OutsideCertificate;
let next: OutsideCertificate;
let stranger: OutsideCertificate;
let clock: FakeClock;
let check: HandshakeCertificateCheck;
let handshakes: number;
const servers: Server[] = [];

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'picket-certificates-'));
  const make = async (name: string, issuer?: OutsideCertificate): Promise<OutsideCertificate> =>
    await makeOutsideCertificate(join(folder, name), { names: [NAME, '127.0.0.1'], issuer });
  const authority = await make('authority');
  vouched = await make('vouched', authority);
  next = await make('next', authority);
  stranger = await make('stranger');
  authorities = await readAuthorities({ partner: authority.certificate, other: stranger.certificate });
});
afterAll(() => rmSync(folder, { recursive: true }));
beforeEach(() => {
  handshakes = 0;
  clock = new FakeClock();
  check = new HandshakeCertificateCheck({ authorities, mark: 0, clock });
});
afterEach(() => {
  for (const server of servers.splice(0)) server.close();
});

async function serve(shown: OutsideCertificate, options: TlsOptions = {}): Promise<number> {
  return await serveFiles({
    cert: readFileSync(shown.certificate),
    key: readFileSync(shown.key),
    ...options,
  });
}

async function serveFiles(options: TlsOptions): Promise<number> {
  const server = createServer(options, (socket) => socket.on('error', () => undefined));
  server.on('connection', () => (handshakes += 1));
  server.on('tlsClientError', () => undefined);
  return await listen(server);
}

async function listen(server: Server): Promise<number> {
  servers.push(server);
  await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve));
  return (server.address() as AddressInfo).port;
}

const at = (port: number, serverName = NAME) => ({ address: '127.0.0.1', port, serverName });
const pinned = (...shown: readonly OutsideCertificate[]) => ({
  spkiSha256: shown.map(({ pin }) => Buffer.from(pin, 'base64').toString('hex')),
});

describe('HandshakeCertificateCheck', () => {
  test.each(['TLSv1.2', 'TLSv1.3'] as const)('knows the key that a server of %s proves', async (version) => {
    const port = await serve(stranger, { minVersion: version, maxVersion: version });
    expect(await check.findFault(at(port), pinned(vouched, stranger), 'web')).toBeUndefined();
    const fault = await check.findFault(at(port), pinned(vouched), 'web');
    expect(fault).toContain(pinned(stranger).spkiSha256[0] ?? '-');
  });

  test('believes an authority that is named, and no other, and only for the name that was asked for', async () => {
    const port = await serve(vouched);
    expect(await check.findFault(at(port), { authority: 'partner' }, 'web')).toBeUndefined();
    expect(await check.findFault(at(port), { authority: 'other' }, 'web')).toContain('"other"');
    expect(await check.findFault(at(port, 'evil.test'), { authority: 'partner' }, 'web')).toContain(
      'evil.test',
    );
    expect(await check.findFault(at(port), { authority: 'nobody' }, 'web')).toContain('knows no authority');
    expect(await check.findFault(at(port), { authority: 'constructor' }, 'web')).toContain('knows no');
    const unknown = await serve(stranger);
    expect(await check.findFault(at(unknown), { authority: 'partner' }, 'web')).toBeString();
  });

  test('wants all that is named', async () => {
    const port = await serve(vouched);
    const both = { ...pinned(vouched), authority: 'partner' };
    expect(await check.findFault(at(port), both, 'web')).toBeUndefined();
    expect(await check.findFault(at(port), { ...both, ...pinned(next) }, 'web')).toContain('another key');
    expect(await check.findFault(at(port), { ...both, authority: 'other' }, 'web')).toContain('"other"');
  });

  test('takes no certificate of an authority that has ended', async () => {
    const root = await makeCertificate({
      ...authorityProfile('partner.test'),
      notAfterMs: Date.now() + 86_400_000,
    });
    // It ended a day after `TEST_NOW_MS`.
    const ended = await makeCertificate(
      { ...leafProfile('spiffe://partner.test/api'), dnsNames: [NAME] },
      root,
    );
    const port = await serveFiles({
      cert: ended.certificate.toString('pem'),
      key: encodePem(
        'PRIVATE KEY',
        new Uint8Array(await crypto.subtle.exportKey('pkcs8', ended.keys.privateKey)),
      ),
    });
    const named = { partner: root.certificate.toString('pem') };
    check = new HandshakeCertificateCheck({ authorities: named, mark: 0, clock });
    expect(await check.findFault(at(port), { authority: 'partner' }, 'web')).toContain('expired');
  });

  test('takes who does not answer, speaks no TLS or hangs up for somebody who proves nothing', async () => {
    const closed = await listen(createTcpServer());
    servers.pop()?.close();
    const rude = await listen(createTcpServer((socket) => socket.end('HTTP/1.1 400 Bad Request\r\n\r\n')));
    const silent = await listen(createTcpServer((socket) => socket.on('error', () => undefined)));
    for (const port of [closed, rude])
      expect(await check.findFault(at(port), pinned(vouched), 'web')).toContain('shows no certificate');
    const waiting = check.findFault(at(silent), pinned(vouched), 'web');
    await Bun.sleep(0);
    clock.advance(10_000);
    expect(await waiting).toContain('in time');
  });

  test('asks once for many, and again when what was proven is half a minute old', async () => {
    const port = await serve(vouched);
    const ask = async (): Promise<string | undefined> =>
      await check.findFault(at(port), pinned(vouched), 'web');
    expect(await Promise.all(Array.from({ length: 20 }, ask))).not.toContain(expect.any(String));
    clock.advance(29_000);
    await ask();
    expect(handshakes).toBe(1);
    clock.advance(1000);
    await ask();
    expect(handshakes).toBe(2);
  });

  test('does not ask a server without end that does not prove what it must, and sees soon that it does', async () => {
    const port = await serve(stranger);
    const ask = async (): Promise<string | undefined> =>
      await check.findFault(at(port), pinned(vouched), 'web');
    for (let i = 0; i < 50; i++) expect(await ask()).toContain('another key');
    expect(handshakes).toBe(1);
    clock.advance(1000);
    expect(await ask()).toContain('another key');
    expect(handshakes).toBe(2);
  });

  test('leaves others their share, however much one asks at once', async () => {
    let connections = 0;
    const silent = await listen(
      createTcpServer((socket) => {
        connections += 1;
        socket.on('error', () => undefined);
      }),
    );
    const name = (i: number): string => `n${i}.test`;
    const asked = Array.from({ length: 100 }, async (_, i) =>
      check.findFault(at(silent, name(i)), pinned(vouched), 'greedy'),
    );
    const port = await serve(vouched);
    expect(await check.findFault(at(port), pinned(vouched), 'web')).toBeUndefined();
    await waitUntil('sixteen are asked', () => connections === 16);
    clock.advance(10_000);
    const faults = await Promise.all(asked);
    expect(faults.filter((fault) => fault?.includes('Too many'))).toHaveLength(84);
    expect(connections).toBe(16);
  });
});

describe('readAuthorities()', () => {
  test('refuses what it cannot read, and files without certificates', async () => {
    for (const path of ['/nonexistent.pem', vouched.key])
      expect((await failureOf(readAuthorities({ partner: path })))?.reason).toBe('authority_invalid');
  });
});
