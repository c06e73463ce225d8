import { afterAll, afterEach, beforeAll, describe, expect, test } from 'bun:test';
import { readdirSync, readFileSync } from 'node:fs';
import { connect as connectHttp2, type ClientHttp2Session } from 'node:http2';
import { connect as connectTcp, createServer as createTcpServer, type AddressInfo } from 'node:net';
import { connect, type ConnectionOptions, type TLSSocket } from 'node:tls';
import { run } from '../../../tests/kit/child.ts';
import { FakeClock } from '../../../tests/kit/fake-clock.ts';
import { TakenDescriptors } from '../../../tests/kit/taken-descriptors.ts';
import { waitUntil } from '../../../tests/kit/wait.ts';
import {
  INSPECTED,
  InspectionRig,
  makeInspectionCertificates,
  NEIGHBOUR,
  removeInspectionCertificates,
  type InspectionCertificates,
} from '../fixtures/inspection-rig.ts';
import { OUTSIDE_TLS } from '../../egress/outside-tls.ts';
import { PHASE_MS } from '../relays/relay-timer.ts';

/** Programs and server are real, and so is all TLS; the policy is the test's. */

const TIMEOUT_MS = 60_000;
const MIB = 1024 * 1024;
const { timeoutMs: HANDSHAKE_MS } = OUTSIDE_TLS;

let certificates: InspectionCertificates;
let rig: InspectionRig;
const programs: TLSSocket[] = [];

beforeAll(async () => {
  certificates = await makeInspectionCertificates();
}, TIMEOUT_MS);
afterAll(() => removeInspectionCertificates(certificates));
afterEach(() => {
  for (const program of programs.splice(0)) program.destroy();
  rig.close();
});

interface Program {
  readonly socket: TLSSocket;
  readonly heard: { text: string; ended: boolean; error: string | undefined };
}

/** A program that trusts the inspection and speaks for itself. */
function start(options: ConnectionOptions = {}): Program {
  const ca = readFileSync(certificates.inspection.certificate);
  const socket = connect({ host: '127.0.0.1', port: rig.port, servername: INSPECTED, ca, ...options });
  const heard: Program['heard'] = { text: '', ended: false, error: undefined };
  programs.push(socket);
  socket.on('data', (bytes: Buffer) => (heard.text += bytes.toString('latin1')));
  socket.on('error', (error) => (heard.error = error.message));
  socket.on('close', () => (heard.ended = true));
  return { socket, heard };
}

/** A program that trusts the inspection, by HTTP/2. */
function startHttp2(): ClientHttp2Session {
  const { socket } = start({ ALPNProtocols: ['h2'] });
  const session = connectHttp2(`https://${INSPECTED}`, { createConnection: () => socket });
  return session.on('error', () => undefined);
}

/** What a program of OpenSSL says first. */
async function makeClientHello(): Promise<Uint8Array> {
  const { promise, resolve } = Promise.withResolvers<Uint8Array>();
  const server = createTcpServer((socket) => {
    socket
      .on('error', () => undefined)
      .once('data', (hello: Buffer) => {
        socket.destroy();
        resolve(hello);
      });
  });
  await new Promise<void>((listening) => void server.listen(0, '127.0.0.1', listening));
  const { port } = server.address() as AddressInfo;
  connect({ host: '127.0.0.1', port, servername: INSPECTED }).on('error', () => undefined);
  const hello = await promise;
  server.close();
  return hello;
}

/** What a program hears that says one thing, until the other side ends. */
async function say(text: string, options: ConnectionOptions = {}): Promise<string> {
  const { socket, heard } = start(options);
  socket.on('secureConnect', () => socket.write(text));
  await waitUntil('the connection is over', () => heard.ended, TIMEOUT_MS);
  return heard.text;
}

const refusals = (): readonly (readonly [string, boolean | undefined])[] =>
  rig.rig.records.filter(({ decision }) => decision === 'deny').map((r) => [r.reason, r.inspected]);

describe.each(['--http1.1', '--http2'])('a program that asks by curl %s', (version) => {
  test('is answered by the server where the policy allows the request, which says nothing of who calls', async () => {
    rig = await InspectionRig.open(certificates);
    const forged = ['-H', 'X-Forwarded-Client-Cert: URI=spiffe://td.test/other'];
    const { stdout } = await rig.curl(INSPECTED, '/public/a?b=c', version, ...forged);
    expect(stdout).toBe(`ok 0\n200 ${version === '--http2' ? '2' : '1.1'}`);
    expect(rig.heard).toMatchObject([{ method: 'GET', path: '/public/a?b=c' }]);
    expect(rig.heard[0]?.headers).not.toHaveProperty('x-forwarded-client-cert');
    const whom = { decision: 'allow', server_name: INSPECTED, inspected: true };
    expect(rig.rig.records).toMatchObject([
      { ...whom, protocol: 'tls', method: null },
      { ...whom, protocol: 'http', method: 'GET', path: '/public/a?b=*' },
    ]);
  }, 60_000);

  test('gets 403 within its TLS where it is denied, and the server hears nothing of it', async () => {
    rig = await InspectionRig.open(certificates);
    const { stdout } = await rig.curl(INSPECTED, '/secret', version);
    expect(stdout).toContain('"reason":"egress_deny"');
    expect(stdout).toEndWith(`\n403 ${version === '--http2' ? '2' : '1.1'}`);
    expect(rig.heard).toEqual([]);
    expect(refusals()).toEqual([['egress_deny', true]]);
  }, 60_000);

  test('is decided by the host within, which must be the name that the server has proven', async () => {
    rig = await InspectionRig.open(certificates);
    const { stdout } = await rig.curl(INSPECTED, '/public/a', version, '-H', `Host: ${NEIGHBOUR}`);
    expect(stdout).toContain('"reason":"domain_unverified"');
    expect(rig.heard).toEqual([]);
    expect(refusals()).toEqual([['domain_unverified', true]]);
    const same = await rig.curl(
      INSPECTED,
      '/public/a',
      version,
      '-H',
      `Host: ${INSPECTED.toUpperCase()}:443`,
    );
    expect(same.stdout).toStartWith('ok');
  }, 60_000);

  test('carries much both ways, whole', async () => {
    rig = await InspectionRig.open(certificates);
    rig.allows = () => true;
    const down = await rig.curl(
      INSPECTED,
      `/public?size=${20 * MIB}`,
      version,
      '-o',
      '/dev/null',
      '-w',
      '%{size_download}',
    );
    expect(down.stdout).toBe(String(20 * MIB));
    const script = `head -c ${20 * MIB} /dev/zero | curl -sS ${version} --data-binary @- -H 'Expect:' --cacert ${certificates.inspection.certificate} --connect-to ${INSPECTED}:443:127.0.0.1:${rig.port} https://${INSPECTED}/public`;
    expect((await run(['bash', '-c', script])).stdout).toBe(`ok ${20 * MIB}`);
  }, 60_000);
});

describe('the policy', () => {
  test('sees requests as of https, with the name that the server has proven, and what the ClientHello said', async () => {
    rig = await InspectionRig.open(certificates);
    const asked: unknown[] = [];
    rig.allows = ({ http, target, tls }) => {
      if (http !== null) asked.push([http.scheme, target.domain, tls?.serverName]);
      return true;
    };
    await rig.curl(INSPECTED, '/');
    expect(asked).toContainEqual(['https', INSPECTED, INSPECTED]);
  });

  test('cuts an idle connection when it lets it out no more, or no more on these terms', async () => {
    rig = await InspectionRig.open(certificates);
    for (const change of [() => (rig.allows = () => false), () => (rig.terms = undefined)]) {
      rig.allows = () => true;
      rig.terms = { isInspected: true };
      const { socket, heard } = start();
      socket.write(`GET /public HTTP/1.1\r\nHost: ${INSPECTED}\r\n\r\n`);
      await waitUntil('it is answered', () => heard.text.includes('ok 0'));
      rig.connections.reconsiderAll();
      expect(rig.connections.size).toBe(1);
      change();
      rig.connections.reconsiderAll();
      await waitUntil('it is cut', () => heard.ended);
      await waitUntil('the server too', () => rig.serverConnections === 0);
    }
  });

  test.each([
    [
      'h2',
      () => {
        const session = startHttp2();
        const request = session.request({ ':method': 'POST', ':path': '/upload', ':authority': INSPECTED });
        request.write('first');
        const heard = { ended: false };
        request.on('error', () => undefined).on('close', () => (heard.ended = true));
        return heard;
      },
    ],
    [
      'http/1.1',
      () => {
        const { socket, heard } = start();
        socket.write(`POST /upload HTTP/1.1\r\nHost: ${INSPECTED}\r\nContent-Length: 100\r\n\r\nfirst`);
        return heard;
      },
    ],
  ])('cuts a request that is under way by %s when it lets that out no more', async (_, upload) => {
    rig = await InspectionRig.open(certificates);
    rig.allows = () => true;
    const heard = upload();
    await waitUntil('the server hears it', () => rig.heard.length === 1, TIMEOUT_MS);
    rig.connections.reconsiderAll();
    expect(refusals()).toEqual([]);
    rig.allows = ({ http }) => http === null;
    rig.connections.reconsiderAll();
    await waitUntil('it is cut', () => heard.ended, TIMEOUT_MS);
    expect(rig.rig.records.at(-1)).toMatchObject({ decision: 'deny', path: '/upload', inspected: true });
  });

  test('refuses a request on other terms than those of the connection', async () => {
    rig = await InspectionRig.open(certificates);
    rig.rig.terms = ({ http }) => (http === null ? { isInspected: true } : undefined);
    const { stdout } = await rig.curl(INSPECTED, '/public');
    expect(stdout).toContain('on other terms');
    expect(rig.heard).toEqual([]);
  });

  test('refuses plaintext to what it wants inspected', async () => {
    rig = await InspectionRig.open(certificates);
    const url = `http://${INSPECTED}:80/public`;
    const { stdout } = await run([
      'curl',
      '-s',
      '--connect-to',
      `${INSPECTED}:80:127.0.0.1:${rig.port}`,
      url,
    ]);
    expect(stdout).toContain('"reason":"inspection_refused"');
    expect([rig.heard, rig.serverConnections]).toEqual([[], 0]);
  });
});

describe('a server', () => {
  test('that no authority vouches for is never stood for', async () => {
    const { certificate, key } = certificates.stranger;
    const server = { cert: readFileSync(certificate), key: readFileSync(key) };
    rig = await InspectionRig.open(certificates, { server });
    const { stdout, exitCode } = await rig.curl(INSPECTED, '/public', '-k');
    expect([stdout, exitCode === 0]).toEqual(['\n000 0', false]);
    expect(rig.rig.records).toMatchObject([
      { decision: 'deny', reason: 'certificate_refused', inspected: true, server_name: INSPECTED },
    ]);
    expect(rig.rig.records[0]?.message).toContain('No authority');
    expect(rig.heard).toEqual([]);
  });

  test('whose certificate is for another name is not stood for', async () => {
    rig = await InspectionRig.open(certificates);
    await rig.curl('third.test', '/public', '-k');
    expect(rig.rig.records).toMatchObject([{ reason: 'certificate_refused', server_name: 'third.test' }]);
    expect(rig.rig.records[0]?.message).toContain('third.test');
  });

  test('must prove what the policy names beside', async () => {
    rig = await InspectionRig.open(certificates);
    const pinOf = ({ pin }: { readonly pin: string }): string => Buffer.from(pin, 'base64').toString('hex');
    const good = { spkiSha256: [pinOf(certificates.server)], authority: 'partner' };
    rig.terms = { isInspected: true, certificate: good };
    expect((await rig.curl(INSPECTED, '/public')).stdout).toStartWith('ok');
    for (const certificate of [{ spkiSha256: [pinOf(certificates.stranger)] }, { authority: 'nobody' }]) {
      rig.terms = { isInspected: true, certificate };
      expect((await rig.curl(INSPECTED, '/public')).stdout).toBe('\n000 0');
    }
    expect(refusals()).toEqual([
      ['certificate_refused', true],
      ['certificate_refused', true],
    ]);
  });

  test.each(['TLSv1.2', 'TLSv1.3'] as const)(
    'of %s that insists on a client’s certificate answers nothing',
    async (maxVersion) => {
      const ca = readFileSync(certificates.authority.certificate);
      rig = await InspectionRig.open(certificates, {
        server: { requestCert: true, rejectUnauthorized: true, ca, maxVersion },
      });
      const { stdout } = await rig.curl(INSPECTED, '/public');
      expect(stdout).not.toContain('200');
      expect(rig.heard).toEqual([]);
      expect(refusals()).toHaveLength(1);
      if (maxVersion === 'TLSv1.2') expect(refusals()).toEqual([['inspection_refused', true]]);
      // In 1.3 it breaks off when the handshake is over, before the request or behind it.
      expect(rig.rig.records.at(-1)?.message).toMatch(/client.s certificate/);
    },
  );

  test('that breaks off before a program has asked for anything is told of', async () => {
    rig = await InspectionRig.open(certificates, { server: { requestCert: true, rejectUnauthorized: true } });
    const { heard } = start();
    await waitUntil('the program is let go', () => heard.ended);
    expect(refusals()).toEqual([['inspection_refused', true]]);
    expect(rig.rig.records.at(-1)?.message).toContain('without a word');
  });

  test('that does not answer is not reachable, which the program hears as a reset', async () => {
    rig = await InspectionRig.open(certificates);
    rig.closeServer();
    expect((await rig.curl(INSPECTED, '/public')).stdout).toBe('\n000 0');
    expect(refusals()).toEqual([['target_unreachable', true]]);
  });

  test('that speaks no TLS is none that can be inspected', async () => {
    rig = await InspectionRig.open(certificates, { speaks: 'mail' });
    expect((await rig.curl(INSPECTED, '/public')).stdout).toBe('\n000 0');
    expect(refusals()).toEqual([['inspection_refused', true]]);
  });
});

describe('while the server is met', () => {
  test('a program that leaves is told of as such, and the server is let go', async () => {
    rig = await InspectionRig.open(certificates, { speaks: 'nothing' });
    const { socket } = start();
    await waitUntil('the server is called', () => rig.serverConnections === 1);
    socket.destroy();
    await waitUntil('it is recorded', () => rig.rig.records.length > 0);
    expect(rig.rig.records).toMatchObject([{ decision: 'deny', reason: 'inspection_refused' }]);
    expect(rig.rig.records[0]?.message).toContain('left');
    await waitUntil('the server is let go', () => rig.serverConnections === 0);
  });

  test('a program that the policy lets out no more is cut at once, and the server let go', async () => {
    rig = await InspectionRig.open(certificates, { speaks: 'nothing' });
    const { heard } = start();
    await waitUntil('the server is called', () => rig.serverConnections === 1);
    rig.allows = () => false;
    rig.connections.reconsiderAll();
    await waitUntil('it is cut', () => heard.ended);
    await waitUntil('the server is let go', () => rig.serverConnections === 0);
    expect(rig.rig.records).toMatchObject([{ decision: 'deny', reason: 'egress_deny', inspected: true }]);
  });

  test('the policy is asked again before anything is recorded', async () => {
    rig = await InspectionRig.open(certificates);
    let asked = 0;
    rig.allows = () => (asked += 1) === 1;
    const { heard } = start();
    await waitUntil('it is refused', () => heard.ended);
    expect(rig.rig.records).toMatchObject([{ decision: 'deny', reason: 'egress_deny' }]);
    expect(rig.denials).toMatchObject([{ decisionId: rig.rig.records[0]?.decision_id }]);
  });
});

describe('while the program’s TLS is ended', () => {
  test('a program that goes no further is cut when the policy lets it out no more', async () => {
    rig = await InspectionRig.open(certificates);
    const socket = connectTcp({ host: '127.0.0.1', port: rig.port });
    let isOver = false;
    socket.on('error', () => undefined).on('close', () => (isOver = true));
    socket.write(await makeClientHello());
    await waitUntil('its server is met', () => rig.rig.records.length === 1);
    rig.allows = () => false;
    rig.connections.reconsiderAll();
    await waitUntil('it is cut', () => isOver);
    await waitUntil('the server is let go', () => rig.serverConnections === 0);
    expect(refusals()).toEqual([['egress_deny', true]]);
  });

  test('a program that is cut before its handshake has begun leaves no socket behind until its time would be over', async () => {
    rig = await InspectionRig.open(certificates);
    const before = readdirSync('/proc/self/fd').length;
    const socket = connectTcp({ host: '127.0.0.1', port: rig.port });
    socket.on('error', () => undefined);
    socket.write(await makeClientHello());
    const cut = (): void => {
      rig.allows = () => false;
      rig.connections.reconsiderAll();
    };
    // The policy is asked for the last time when the server was met; next, the pair of sockets is made by which the handshake is fed.
    rig.allows = () => {
      if (rig.serverConnections === 1) queueMicrotask(cut);
      return true;
    };
    await waitUntil('it is cut', () => socket.closed);
    await waitUntil('all is closed', () => readdirSync('/proc/self/fd').length <= before, HANDSHAKE_MS / 2);
    expect(refusals()).toEqual([['egress_deny', true]]);
  });

  test('a lack of descriptors is told of as such, and the program is let go with the reason', async () => {
    rig = await InspectionRig.open(certificates);
    let taken: TakenDescriptors | undefined;
    // The policy is asked for the last time when the server was met.
    rig.allows = () => {
      if (rig.serverConnections === 1) taken ??= new TakenDescriptors();
      return true;
    };
    try {
      const { heard } = start();
      await waitUntil('the program is let go', () => heard.ended);
    } finally {
      taken?.[Symbol.dispose]();
    }
    await waitUntil('the server is let go', () => rig.serverConnections === 0);
    expect(refusals()).toEqual([['overloaded', true]]);
    expect(rig.denials).toMatchObject([
      { reason: 'overloaded', decisionId: rig.rig.records.at(-1)?.decision_id },
    ]);
  });

  test('a program that only leaves is said to have left', async () => {
    rig = await InspectionRig.open(certificates);
    const socket = connectTcp({ host: '127.0.0.1', port: rig.port });
    socket.on('error', () => undefined);
    socket.write(await makeClientHello());
    await waitUntil('its server is met', () => rig.rig.records.length === 1);
    socket.resetAndDestroy();
    await waitUntil('it is recorded', () => refusals().length === 1);
    expect(rig.rig.records.at(-1)?.message).toContain('left');
  });
});

describe('a program that agreed on HTTP/2', () => {
  test('and says nothing is cut when the policy lets it out no more', async () => {
    rig = await InspectionRig.open(certificates);
    const { socket, heard } = start({ ALPNProtocols: ['h2'] });
    await new Promise<void>((resolve) => void socket.on('secureConnect', resolve));
    rig.allows = () => false;
    rig.connections.reconsiderAll();
    await waitUntil('it is cut', () => heard.ended);
    await waitUntil('the server is let go', () => rig.serverConnections === 0);
    expect(refusals()).toEqual([['egress_deny', true]]);
  });

  test('and ends before it begins has ended in order', async () => {
    rig = await InspectionRig.open(certificates);
    const { socket, heard } = start({ ALPNProtocols: ['h2'] });
    socket.on('secureConnect', () => socket.end());
    await waitUntil('it is over', () => heard.ended);
    await waitUntil('the server is let go', () => rig.serverConnections === 0);
    expect([heard.error, refusals(), rig.serverEnds]).toEqual([undefined, [], 1]);
  });
});

describe('a host without an authority', () => {
  test('lets nothing out that is to be inspected, and says why', async () => {
    rig = await InspectionRig.open(certificates, { inspects: false });
    expect((await rig.curl(INSPECTED, '/public', '-k')).stdout).toBe('\n000 0');
    expect(refusals()).toEqual([['inspection_not_configured', true]]);
    expect(rig.serverConnections).toBe(0);
  });
});

describe('a program', () => {
  test('that does not trust the authority breaks off, and the record says so', async () => {
    rig = await InspectionRig.open(certificates);
    const { exitCode } = await rig.curl(INSPECTED, '/public', '--cacert', certificates.authority.certificate);
    expect(exitCode).toBe(60);
    await waitUntil('it is recorded', () => refusals().length === 1);
    expect(refusals()).toEqual([['inspection_refused', true]]);
    await waitUntil('the server is let go', () => rig.serverConnections === 0);
    expect(rig.heard).toEqual([]);
  });

  test('that names no server, or offers no HTTP, is refused before anybody is asked', async () => {
    rig = await InspectionRig.open(certificates);
    await say('', { servername: '', rejectUnauthorized: false });
    await say('', { ALPNProtocols: ['postgresql'] });
    expect(refusals()).toEqual([
      ['inspection_refused', true],
      ['inspection_refused', true],
    ]);
    expect(rig.serverConnections).toBe(0);
  });

  test('that speaks something else within is refused, and nothing of it reaches the server', async () => {
    rig = await InspectionRig.open(certificates);
    expect(await say('\x00\x00\x00\x08\x04\xd2\x16\x2f\r\n\r\n')).toStartWith('HTTP/1.1 400');
    expect(await say('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n')).toStartWith('HTTP/1.1 400');
    expect(refusals()).toEqual([
      ['protocol_error', true],
      ['protocol_error', true],
    ]);
    const { socket, heard } = start({ ALPNProtocols: ['h2'] });
    socket.write('GET /public HTTP/1.1\r\nHost: api.test\r\n\r\n');
    await waitUntil('it is over', () => heard.ended);
    expect(refusals()).toHaveLength(3);
    expect(rig.heard).toEqual([]);
  });

  test.each([
    [
      'two lengths',
      `GET /public HTTP/1.1\r\nHost: ${INSPECTED}\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /secret HTTP/1.1\r\nHost: ${INSPECTED}\r\n\r\n`,
    ],
    ['a bare LF', `GET /public HTTP/1.1\nHost: ${INSPECTED}\r\n\r\n`],
    ['two hosts', `GET /public HTTP/1.1\r\nHost: ${INSPECTED}\r\nHost: ${NEIGHBOUR}\r\n\r\n`],
    ['another host in its target', `GET https://${NEIGHBOUR}/public HTTP/1.1\r\nHost: ${INSPECTED}\r\n\r\n`],
    ['the scheme in its target', `GET http://${INSPECTED}/public HTTP/1.1\r\nHost: ${INSPECTED}\r\n\r\n`],
    ['no host', 'GET /public HTTP/1.0\r\n\r\n'],
  ])('cannot smuggle a request in by %s', async (_, request) => {
    rig = await InspectionRig.open(certificates);
    const { socket, heard } = start();
    socket.write(request);
    await waitUntil('it is answered', () => heard.text !== '' || heard.ended);
    expect(heard.text).toMatch(/^HTTP\/1\.1 40[03] /);
    expect(rig.heard).toEqual([]);
  });

  test('that asks for another protocol than WebSocket within is refused', async () => {
    rig = await InspectionRig.open(certificates);
    const upgrade = (protocol: string): string =>
      `GET /public HTTP/1.1\r\nHost: ${INSPECTED}\r\nConnection: upgrade\r\nUpgrade: ${protocol}\r\n\r\n`;
    const { socket, heard } = start();
    socket.write(upgrade('tcp'));
    await waitUntil('it is answered', () => heard.text.includes('HTTP/1.1 '));
    expect(heard.text).toContain('"reason":"protocol_error"');
    expect(rig.heard).toEqual([]);
    const other = start();
    other.socket.write(upgrade('WebSocket'));
    await waitUntil('the server takes it', () => other.heard.text.startsWith('HTTP/1.1 101 '));
    expect(rig.serverUpgrades).toBe(1);
    expect(refusals()).toEqual([['protocol_error', true]]);
  });

  test('that asks for nothing more is ended after a while, in good order', async () => {
    const clock = new FakeClock();
    rig = await InspectionRig.open(certificates, { clock });
    const { socket, heard } = start();
    const ask = async (count: number): Promise<void> => {
      socket.write(`GET /public HTTP/1.1\r\nHost: ${INSPECTED}\r\n\r\n`);
      await waitUntil('it is answered', () => heard.text.split('HTTP/1.1 200').length - 1 === count);
    };
    await ask(1);
    clock.advance(PHASE_MS.idle - 1);
    await ask(2);
    clock.advance(PHASE_MS.idle);
    await waitUntil('it is over', () => heard.ended);
    expect([heard.error, refusals()]).toEqual([undefined, []]);
  });

  test('that pipelines has each request decided', async () => {
    rig = await InspectionRig.open(certificates);
    const of = (path: string): string => `GET ${path} HTTP/1.1\r\nHost: ${INSPECTED}\r\n\r\n`;
    const { socket, heard } = start();
    socket.write(of('/public/1') + of('/secret') + of('/public/2'));
    await waitUntil('all are answered', () => heard.text.match(/HTTP\/1\.1 /g)?.length === 3);
    expect(heard.text.match(/HTTP\/1\.1 \d+/g)).toEqual(['HTTP/1.1 200', 'HTTP/1.1 403', 'HTTP/1.1 200']);
    expect(rig.heard.map(({ path }) => path)).toEqual(['/public/1', '/public/2']);
  });
});
