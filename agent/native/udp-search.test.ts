import { afterAll, afterEach, beforeAll, describe, expect, test } from 'bun:test';
import { requireRoot } from '../../tests/kit/netns.ts';
import { findUdpSenders } from './sock-diag.ts';
import { openUdpSearch, type UdpSearch } from './udp-search.ts';

const HOLDER = `
import resource, socket, os, sys
uid, port, count, *addresses = sys.argv[1:]
resource.setrlimit(resource.RLIMIT_NOFILE, (8192, 8192))
os.setuid(int(uid))
port, held = int(port), []
for asked in addresses:
    address, _, far = asked.partition('>')
    for _ in range(int(count)):
        one = socket.socket(socket.AF_INET6 if ':' in address else socket.AF_INET, socket.SOCK_DGRAM)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if address == '::': one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        one.bind((address, port))
        port = one.getsockname()[1]
        if far: one.connect((far, 9))
        held.append(one)
print(port, flush=True)
sys.stdin.read()`;
const OWNER = 7101;
const OTHER = 7102;
const USERS = [{ first: OWNER, last: OWNER }];
const children: Bun.Subprocess[] = [];

/** Has a user hold sockets, `count` at each address, of which `address>far` is connected; the port that they share. */
async function hold(
  uid: number,
  { port = 0, count = 1 }: { readonly port?: number; readonly count?: number },
  ...addresses: readonly string[]
): Promise<number> {
  const argv = [uid, port, count].map(String);
  const child = Bun.spawn(['/usr/bin/python3', '-c', HOLDER, ...argv, ...addresses], {
    stdin: 'pipe',
    stdout: 'pipe',
  });
  children.push(child);
  const { value } = await child.stdout.getReader().read();
  return Number(Buffer.from(value ?? []).toString());
}

beforeAll(() => requireRoot('programs in the kernel'));
afterEach(() => {
  for (const child of children.splice(0)) child.kill('SIGKILL');
});

describe('UdpSearch.find()', () => {
  let search: UdpSearch;
  beforeAll(() => {
    search = openUdpSearch();
  });
  afterAll(() => search.close());

  const remoteOf = (address: string) => ({
    address: address.includes(':') ? 'fd77::9' : '127.0.0.9',
    port: 9,
  });

  /** The owner's sockets and those that get the answers, as sock_diag tells of them. */
  function expectAsTold(address: string, port: number): number {
    const ends = { local: { address, port }, remote: remoteOf(address) };
    const mayBeOf = (uid: number): boolean => uid === OWNER;
    const told = findUdpSenders(ends, { mayBeOf });
    const found = search.find({ ...ends, users: USERS }).sockets ?? [];
    const byCookie = (sockets: typeof told) => sockets.toSorted((a, b) => Number(a.cookie - b.cookie));
    expect(byCookie(found)).toEqual(byCookie(told));
    return told.length;
  }

  test('finds what sock_diag tells of, every part of it, and no sockets of others that get no answers', async () => {
    const port = await hold(OWNER, {}, '127.0.0.1', '127.0.0.2>127.0.0.9', '::1', '::ffff:127.0.0.3');
    await hold(
      OTHER,
      { port },
      '127.0.0.4',
      '127.0.0.5>127.0.0.9',
      '127.0.0.7>127.0.0.8',
      '::ffff:127.0.0.6',
      '::',
    );
    expect(expectAsTold('127.0.0.1', port)).toBe(3);
    expect(expectAsTold('127.0.0.4', port)).toBe(4);
    expect(expectAsTold('127.0.0.5', port)).toBe(4);
    expect(expectAsTold('127.0.0.6', port)).toBe(4);
    expect(expectAsTold('127.0.0.7', port)).toBe(3);
    expect(expectAsTold('127.0.0.9', port)).toBe(3);
    expect(expectAsTold('::1', port)).toBe(3);
    expect(expectAsTold('fd77::1', port)).toBe(3);
  });

  test('passes over any number of sockets of others, and counts them', async () => {
    const port = await hold(OWNER, {}, '127.0.0.1');
    await hold(OTHER, { port, count: 1000 }, '127.0.0.2', '127.0.0.3>127.0.0.8', '::');
    const ends = { local: { address: '127.0.0.1', port }, remote: remoteOf('127.0.0.1') };
    const mayBeOf = (uid: number): boolean => uid === OWNER;
    expect(findUdpSenders(ends, { mayBeOf })).toEqual([]);
    const { sockets, passed } = search.find({ ...ends, users: USERS });
    expect(sockets?.map(({ uid, local }) => [uid, local.address])).toEqual([[OWNER, '127.0.0.1']]);
    expect(passed).toBeGreaterThanOrEqual(3000);
    // They get the answers of another flow.
    expect(
      search.find({ ...ends, local: { address: '127.0.0.2', port }, users: USERS }).sockets,
    ).toBeUndefined();
  });

  test("says so where the owner's own are too many, and where there are more users than it can look for", async () => {
    const port = await hold(OWNER, { count: 513 }, '127.0.0.1');
    const ends = { local: { address: '127.0.0.1', port }, remote: remoteOf('127.0.0.1') };
    expect(search.find({ ...ends, users: USERS }).sockets).toBeUndefined();
    expect(search.find({ ...ends, users: Array.from({ length: 9 }, () => ({ first: 1, last: 1 })) })).toEqual(
      {
        sockets: undefined,
        passed: 0,
      },
    );
    // What was sought before is sought no more.
    expect(search.find({ ...ends, local: { address: '127.0.0.2', port }, users: [] }).sockets).toEqual([]);
  });
});
