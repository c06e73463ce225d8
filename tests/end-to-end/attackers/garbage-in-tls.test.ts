import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { spiffeServerName } from '../../../shared/spiffe/server-name.ts';
import { parseSpiffeId } from '../../../shared/spiffe/spiffe-id.ts';
import { Shop, SHOP_USERS } from '../../kit/shop.ts';
import { eventsOf } from '../../kit/witnesses.ts';
import { readMemory } from '../traffic/process-memory.ts';
import {
  issueLeaf,
  opening,
  signIntermediate,
  writeCredentials,
  type CredentialFiles,
} from './mesh-client.ts';

/** Garbage behind a finished TLS handshake: it is answered shortly, or not at all, and the service goes on. */

setDefaultTimeout(90_000);

const GARBAGE_TLS = readFileSync(join(import.meta.dirname, 'programs/garbage-tls.py'), 'utf8');
const INVOICES = spiffeServerName(parseSpiffeId('spiffe://example.org/invoices'));
const MIB = 1024 * 1024;
/** What garbage may be told in return. */
const MAX_ANSWER_BYTES = 64 * 1024;
/** What all of it together may cost a process, with what else it did meanwhile. */
const MAX_GROWTH_BYTES = 200 * MIB;
let shop: Shop;
let credentials: CredentialFiles;

beforeAll(async () => {
  shop = await Shop.open();
  const intermediate = await signIntermediate(shop.mesh.control);
  const leaf = await issueLeaf(intermediate, 'spiffe://example.org/web');
  credentials = await writeCredentials([leaf, intermediate], shop.folder);
}, 120_000);
afterAll(async () => await shop.close());

interface Encounter {
  readonly received: number;
  readonly isClosed: boolean;
}

interface Target {
  readonly address: string;
  readonly port: number;
  readonly name: string;
  readonly protocol: string;
  readonly isVerified?: boolean;
}

async function say(bytes: Uint8Array, target: Target, seconds = 30): Promise<Encounter> {
  const { address, port, name, protocol, isVerified = false } = target;
  const own = isVerified ? [credentials.chainFile, credentials.keyFile] : [];
  const args = [address, String(port), name, protocol, String(seconds), ...own];
  const child = Bun.spawn(shop.outsider.in('/usr/bin/python3', '-c', GARBAGE_TLS, ...args), {
    stdin: bytes,
    stdout: 'pipe',
    stderr: 'ignore',
  });
  const [received = '', state] = (await new Response(child.stdout).text()).trim().split(' ');
  return { received: Number(received), isClosed: state === 'closed' };
}

const h2Frame = (type: number, flags: number, stream: number, payload: Uint8Array): Buffer => {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head.writeUInt8(type, 3);
  head.writeUInt8(flags, 4);
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
};
const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
const SETTINGS = h2Frame(4, 0, 0, new Uint8Array(0));
const [HEADERS, CONTINUATION, PING] = [1, 9, 6];
/** HPACK: a field without indexing, of an empty name and 16 KiB. */
const bigField = Buffer.concat([
  Buffer.from([0, 1, 0x78, 0x7f, 0x81, 0x7f]),
  Buffer.alloc(16_384, 0x61),
]).subarray(0, 16_384);

const HTTP2: Readonly<Record<string, () => Uint8Array>> = {
  'random bytes': () => randomBytes(256 * 1024),
  'a preface with a letter wrong': () => Buffer.concat([Buffer.from(PREFACE).fill('x', 3, 4), SETTINGS]),
  'no preface': () => Buffer.concat([SETTINGS, SETTINGS]),
  'a frame of 16 MiB': () => Buffer.concat([PREFACE, SETTINGS, h2Frame(0, 0, 1, Buffer.alloc(16 * MIB - 1))]),
  'a head without end': () =>
    Buffer.concat([
      PREFACE,
      SETTINGS,
      h2Frame(HEADERS, 0, 1, bigField),
      ...Array.from({ length: 1000 }, () => h2Frame(CONTINUATION, 0, 1, bigField)),
    ]),
  'a head of random bytes': () =>
    Buffer.concat([PREFACE, SETTINGS, h2Frame(HEADERS, 4, 1, randomBytes(8192))]),
  'a ping of a wrong length': () => Buffer.concat([PREFACE, SETTINGS, h2Frame(PING, 0, 0, Buffer.alloc(7))]),
};
const HTTP1: Readonly<Record<string, () => Uint8Array>> = {
  'random bytes': () => randomBytes(256 * 1024),
  'a request line of 1 MiB': () => Buffer.from(`GET /${'a'.repeat(MIB)} HTTP/1.1\r\nHost: x\r\n\r\n`),
  'a field of 1 MiB': () => Buffer.from(`GET / HTTP/1.1\r\nHost: x\r\nX: ${'a'.repeat(MIB)}\r\n\r\n`),
  '100,000 fields': () => Buffer.from(`GET / HTTP/1.1\r\nHost: x\r\n${'X: y\r\n'.repeat(100_000)}\r\n`),
};
/** Answered before they are read to their end; the connection ends when it has been idle for too long, like every other. */
const BODIES: Readonly<Record<string, () => Uint8Array>> = {
  'a body that is longer than any may be': () =>
    Buffer.from(
      `POST /v1/attest HTTP/1.1\r\nHost: x\r\nContent-Length: ${32 * MIB}\r\n\r\n${'a'.repeat(32 * MIB)}`,
    ),
  'a chunk without end': () =>
    Buffer.from(
      `POST /v1/attest HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nfffffff\r\n${'a'.repeat(32 * MIB)}`,
    ),
};

describe('the server', () => {
  const { web } = SHOP_USERS;
  for (const port of [8443, 8444])
    for (const [protocol, kinds] of [
      ['h2', HTTP2],
      ['http/1.1', HTTP1],
    ] as const)
      test(`goes on after garbage within TLS on ${port}, where ${protocol} was agreed on`, async () => {
        const { control } = shop.mesh;
        const { pid } = control;
        const before = readMemory(pid).residentBytes;
        const target = { address: control.host.ipv4, port, name: 'localhost', protocol };
        for (const [name, make] of Object.entries(kinds)) {
          const { received, isClosed } = await say(make(), target);
          expect({ name, received, isClosed }).toEqual({ name, received, isClosed: true });
          expect(received).toBeLessThan(MAX_ANSWER_BYTES);
        }
        for (const make of protocol === 'h2' ? [] : Object.values(BODIES)) {
          const { received, isClosed } = await say(make(), target, 10);
          // Of a connection that is closed over what was not read, the answer may be lost.
          expect(received > 0 || isClosed).toBe(true);
          expect(received).toBeLessThan(MAX_ANSWER_BYTES);
        }
        expect(readMemory(pid).residentBytes - before).toBeLessThan(MAX_GROWTH_BYTES);
        expect(control.pid).toBe(pid);
        if (protocol === 'h2') expect(eventsOf(control.log(), 'session_failed').length).toBeGreaterThan(0);
        expect(await control.picketOk('node', 'list')).toContain('store');
        expect((await shop.ask(web, '/invoices')).status).toBe(200);
      });
});

const frame = (type: number, length: number, payload: Uint8Array): Buffer =>
  Buffer.concat([Buffer.from([type, length >> 16, (length >> 8) & 0xff, length & 0xff]), payload]);

/** Of a workload that is verified. A frame is a byte of type and three of length. */
const TUNNEL: Readonly<Record<string, () => Uint8Array>> = {
  'random bytes': () => randomBytes(256 * 1024),
  'zeros without end': () => Buffer.alloc(8 * MIB),
  'an opening of 16 MiB': () => frame(1, 0xffffff, Buffer.alloc(8 * MIB)),
  'an empty opening': () => frame(1, 0, new Uint8Array(0)),
  'a frame of an unknown type': () => frame(0x7f, 4, Buffer.alloc(4)),
  'data before an opening': () => frame(4, 4, Buffer.from('data')),
  'what only the called side says': () => frame(2, 0, new Uint8Array(0)),
  'two openings at once': () =>
    Buffer.concat(Array.from({ length: 2 }, () => opening(shop.store.host.ipv4, 80))),
  HTTP: () => Buffer.from('GET /invoices HTTP/1.1\r\nHost: shop\r\n\r\n'),
};

describe('an agent', () => {
  test('goes on after garbage within TLS on 15008, by a workload that it has verified and by one that showed nothing', async () => {
    const { store } = shop;
    const { pid } = store;
    const before = readMemory(pid).residentBytes;
    const served = await shop.countNginxRequests();
    for (const isVerified of [true, false])
      for (const [name, make] of Object.entries(TUNNEL)) {
        const target = {
          address: store.host.ipv4,
          port: 15_008,
          name: INVOICES,
          protocol: 'picket/1',
          isVerified,
        };
        const { received, isClosed } = await say(make(), target);
        expect({ name, received, isClosed }).toEqual({ name, received, isClosed: true });
        expect(received).toBeLessThan(MAX_ANSWER_BYTES);
      }
    expect(readMemory(pid).residentBytes - before).toBeLessThan(MAX_GROWTH_BYTES);
    expect(await shop.countNginxRequests()).toBe(served);
    expect(eventsOf(store.log(), 'mesh_protocol_broken').length).toBeGreaterThan(0);
    expect(eventsOf(store.log(), 'mesh_caller_refused').length).toBeGreaterThan(0);
    expect(store.pid).toBe(pid);
    expect((await shop.ask(SHOP_USERS.web, '/invoices')).status).toBe(200);
  });
});
