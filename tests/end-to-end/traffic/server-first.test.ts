import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { z } from 'zod';
import { accountOf } from '../../kit/programs.ts';
import { waitUntil } from '../../kit/wait.ts';
import {
  makeClientKey,
  MARIADB_PORT,
  mariadb,
  smtp,
  SMTP_PORT,
  ssh,
  SSH_PORT,
} from './talkative-services.ts';
import { python, TrafficMesh } from './traffic-mesh.ts';

/** Protocols whose server speaks first, with Debian's servers and clients: nothing waits for bytes of the client that will not come. */

setDefaultTimeout(60_000);

/** Pairs of connections, of which the medians are compared. */
const ROUNDS = 31;
/** A client that is silent may wait so many times as long as one that speaks at once, on the same way to the same server, and as long as a busy machine looks elsewhere. Who waits for what may not come waits for seconds. */
const MAX_RATIO = 2;
const ELSEWHERE_MS = 20;
/** Of a person: OpenSSH's client insists on one with an account. */
const SSH_CALLER = accountOf('games').uid;
const measured = z.object({
  silent: z.array(z.number()),
  speaking: z.array(z.number()),
  greeting: z.string(),
});
let traffic: TrafficMesh;
let key: string;

beforeAll(async () => {
  traffic = await TrafficMesh.open({
    services: [ssh, mariadb, smtp],
    isOpen: async (open) => {
      const greetings = [SSH_PORT, MARIADB_PORT, SMTP_PORT].map(
        async (port) =>
          await open.asCaller(python('first-byte.py', open.store.host.ipv4, String(port), '1', '')),
      );
      return (await Promise.all(greetings)).every(({ exitCode }) => exitCode === 0);
    },
  });
  const { mesh, desk } = traffic;
  await mesh.register({ path: '/caller', on: desk, selectors: [`unix:uid:${SSH_CALLER}`] });
  key = await makeClientKey(traffic.folder, SSH_CALLER);
}, 120_000);
afterAll(async () => await traffic?.close());

const address = (family: 'ipv4' | 'ipv6'): string => traffic.store.host[family];

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;
}

describe('the greeting of a server', () => {
  test.each([
    ['SSH', SSH_PORT, 'SSH-2.0-test', 'SSH-2.0-OpenSSH'],
    ['MariaDB', MARIADB_PORT, 'nonsense', 'MariaDB'],
    ['SMTP', SMTP_PORT, 'EHLO test', '220 '],
  ])(
    'by %s (port %d) comes as soon to a client that waits for it as to one that speaks at once',
    async (_name, port, text, begin) => {
      const { stdout, stderr } = await traffic.asCaller(
        python('first-byte.py', address('ipv4'), String(port), String(ROUNDS), text),
      );
      expect(stderr).toBe('');
      const { silent, speaking, greeting } = measured.parse(JSON.parse(stdout));
      expect(greeting).toContain(begin);
      expect(silent).toHaveLength(ROUNDS);
      expect(median(silent)).toBeLessThan(MAX_RATIO * median(speaking) + ELSEWHERE_MS);
    },
  );
});

describe.each(['ipv4', 'ipv6'] as const)('over %s', (family) => {
  test('an SSH session runs a command, and its input and output pass', async () => {
    const unknown = [
      '-o',
      'StrictHostKeyChecking=no',
      '-o',
      'UserKnownHostsFile=/dev/null',
      '-o',
      'LogLevel=ERROR',
    ];
    const login = [
      '-F',
      'none',
      ...unknown,
      '-i',
      key,
      '-p',
      String(SSH_PORT),
      '-l',
      'postgres',
      address(family),
    ];
    const command = ['bash', '-c', 'echo question | ssh "$@"', 'ssh', ...login, 'cat; echo $((6*7)); exit 3'];
    const answer = await waitUntil('the caller has its identity', async () => {
      const result = await traffic.asCaller(command, { uid: SSH_CALLER });
      return result.exitCode === 255 ? undefined : result;
    });
    expect(answer).toEqual({ exitCode: 3, stdout: 'question\n42\n', stderr: '' });
  });

  test('MariaDB answers a query', async () => {
    const query = ['-N', '-e', "select repeat('x', 3000000)"];
    const server = ['-h', address(family), '-P', String(MARIADB_PORT), '-u', 'root'];
    const { stdout, exitCode } = await traffic.asCaller(['mariadb', '--no-defaults', ...server, ...query]);
    expect([exitCode, stdout.trim().length]).toEqual([0, 3_000_000]);
  });
});

test('a program that calls several services from one port of its own is known at each', async () => {
  const services = [SSH_PORT, MARIADB_PORT, SMTP_PORT].map((port) => `${address('ipv4')}:${port}`);
  const { stdout, stderr } = await traffic.asCaller(python('one-port.py', ...services));
  expect(stderr).toBe('');
  expect(stdout.trim().split('\n')).toEqual(services);
});

test('a mail is delivered by SMTP', async () => {
  const url = `smtp://${address('ipv4')}:${SMTP_PORT}`;
  const mail = ['--mail-from', 'a@example.org', '--mail-rcpt', 'b@example.org', '-T', '-'];
  const command = [
    'bash',
    '-c',
    'echo "Subject: through the mesh" | curl -sS --max-time 20 "$@"',
    'curl',
    url,
    ...mail,
  ];
  expect(await traffic.asCaller(command)).toEqual({ exitCode: 0, stdout: '', stderr: '' });
  await waitUntil('it was delivered', () => traffic.service('/smtp').log().includes('through the mesh'));
});
