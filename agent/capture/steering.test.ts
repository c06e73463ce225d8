import { afterAll, beforeAll, beforeEach, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { join } from 'node:path';
import type { Child } from '../../tests/kit/child.ts';
import type { TestHost } from '../../tests/kit/netns.ts';
import {
  ask,
  createCapturedNetwork,
  EXCLUDED_USER,
  fetchPage,
  MARK,
  NOBODY,
  Pipe,
  STRICT,
  waitForListener,
  type CapturedNetwork,
} from './fixtures/captured-network.ts';

setDefaultTimeout(60_000);

/** Says hello from a source port that may still be remembered for another connection; nc would not take it again. */
async function callFrom(
  host: TestHost,
  call: { readonly port: string; readonly address: string; readonly destination: number },
): Promise<string> {
  const { port, address, destination } = call;
  const program = [
    'use IO::Socket::IP;',
    `my $s = IO::Socket::IP->new(PeerHost => "${address}", PeerPort => ${destination}, LocalPort => ${port}, ReuseAddr => 1) or die $@;`,
    'print $s "hello\\n"; print scalar <$s>;',
  ];
  return await host.runOk('perl', '-e', program.join('\n'));
}

const MARKED_DIAL = join(import.meta.dirname, 'fixtures', 'marked-dial.ts');

describe.each(['nftables', 'ebpf'] as const)('capture by %s', (backend) => {
  let net: CapturedNetwork;
  let agent: Child;
  let here: TestHost;
  let outside: TestHost;

  beforeAll(async () => {
    net = await createCapturedNetwork(backend);
    ({ captured: here, outside } = net);
  });

  beforeEach(async () => {
    await net.capture.remove();
    if (agent === undefined || !agent.isRunning) agent = await net.startAgent();
  });

  afterAll(() => net.remove());

  /** Where a captured program's socket begins: programs take it to loopback, rules leave it as it is. */
  const ownSource = (family: 'ipv4' | 'ipv6'): string => {
    if (backend === 'nftables') return here[family];
    return family === 'ipv4' ? '127.0.0.1' : '::1';
  };

  for (const family of ['ipv4', 'ipv6'] as const)
    describe(`over ${family}`, () => {
      const url = (host: TestHost, port: number): string =>
        family === 'ipv4' ? `http://${host.ipv4}:${port}/` : `http://[${host.ipv6}]:${port}/`;

      // One for each family: a dual-stack listener keeps the first one's port busy for a minute.
      const sourcePort = family === 'ipv4' ? '40004' : '40006';

      test('let everything pass before they are applied', async () => {
        expect(await fetchPage(here, url(outside, 80))).toEqual({ status: 200, exitCode: 0 });
      });

      test('steer an outbound connection to the agent, which learns where it was going and who called', async () => {
        await net.capture.apply(STRICT);
        const { text } = await ask(here, outside[family], 80, { uid: NOBODY, flags: ['-p', sourcePort] });
        expect(text).toBe(`outbound ${outside[family]} 80 from ${ownSource(family)} ${sourcePort}\n`);
      });

      test('steer an inbound connection to the agent, which learns where it was going', async () => {
        await net.capture.apply(STRICT);
        const { text } = await ask(outside, here[family], 80, { flags: ['-p', sourcePort] });
        expect(text).toBe(`inbound ${here[family]} 80 from ${outside[family]} ${sourcePort}\n`);
      });

      test('tell who called, also where one source port calls several places', async () => {
        await net.capture.apply(STRICT);
        const port = family === 'ipv4' ? '20014' : '20016';
        for (const destination of [80, 8080, 81, 80]) {
          const text = await callFrom(here, { port, address: outside[family], destination });
          expect(text).toBe(`outbound ${outside[family]} ${destination} from ${ownSource(family)} ${port}\n`);
        }
      });

      test('let the mesh port be reached as it is', async () => {
        await net.capture.apply(STRICT);
        expect((await ask(outside, here[family], 15_008)).text).toStartWith('mesh nowhere');
      });

      test('let pass what the agent dials with its mark, and nothing with another mark', async () => {
        await net.capture.apply(STRICT);
        const dial = async (mark: number): Promise<string> =>
          await here.runOk(
            'timeout',
            '3',
            process.execPath,
            MARKED_DIAL,
            outside[family],
            '80',
            String(mark),
          );
        expect(await dial(MARK)).toContain('200 OK');
        expect(await dial(MARK + 1)).toStartWith('outbound');
      });

      test('let an excluded destination port pass and no other', async () => {
        await net.capture.apply({ ...STRICT, exclude: { ...STRICT.exclude, outboundPorts: [8080] } });
        expect((await fetchPage(here, url(outside, 8080))).status).toBe(200);
        expect((await ask(here, outside[family], 80)).text).toStartWith('outbound');
      });

      test('let an excluded destination address pass and no other', async () => {
        const outboundAddresses = [family === 'ipv4' ? `${outside.ipv4}/31` : `${outside.ipv6}/127`];
        await net.capture.apply({ ...STRICT, exclude: { ...STRICT.exclude, outboundAddresses } });
        expect((await fetchPage(here, url(outside, 80))).status).toBe(200);
        const other = family === 'ipv4' ? '10.9.0.9' : 'fd09::9';
        expect((await ask(here, other, 80)).text).toStartWith(`outbound ${other} 80`);
      });

      test('let an excluded user pass and no other', async () => {
        await net.capture.apply({ ...STRICT, exclude: { ...STRICT.exclude, users: [EXCLUDED_USER] } });
        expect((await fetchPage(here, url(outside, 80), EXCLUDED_USER)).status).toBe(200);
        expect((await ask(here, outside[family], 80, { uid: NOBODY })).text).toStartWith('outbound');
      });

      test('leave an excluded inbound port to whoever listens there, answers included', async () => {
        await net.capture.apply({ ...STRICT, exclude: { ...STRICT.exclude, inboundPorts: [22] } });
        const server = new Pipe(here.in('nc', '-l', '-k', family === 'ipv4' ? '0.0.0.0' : '::', '22'));
        await waitForListener(here, 22);
        const client = new Pipe(outside.in('nc', here[family], '22'));
        client.say('login\n');
        await server.hears('login');
        server.say('welcome\n');
        await client.hears('welcome');
        await client.stop();
        await server.stop();
      });

      test('refuse with the agent dead what they steer with it alive', async () => {
        await net.capture.apply(STRICT);
        await agent.stop('SIGKILL');
        const before = await net.requestsOutside();
        const CURL_REFUSED = 7;
        expect(await fetchPage(here, url(outside, 80))).toEqual({ status: 0, exitCode: CURL_REFUSED });
        expect(await fetchPage(outside, url(here, 80))).toEqual({ status: 0, exitCode: CURL_REFUSED });
        expect(await fetchPage(outside, url(here, 15_008))).toEqual({ status: 0, exitCode: CURL_REFUSED });
        expect(await net.requestsOutside()).toBe(before);
        expect(await net.capture.isIntact()).toBe(true);
      });

      test('steer connections to a registered listener of this host by every address, and no others', async () => {
        await net.capture.apply({ ...STRICT, localPorts: [5432] });
        const loopback = family === 'ipv4' ? '127.0.0.1' : '::1';
        for (const address of [loopback, here[family]])
          expect((await ask(here, address, 5432)).text).toStartWith(`outbound ${address} 5432`);
        const server = new Pipe(here.in('nc', '-l', loopback, '5433'));
        await waitForListener(here, 5433);
        const client = new Pipe(here.in('nc', loopback, '5433'));
        client.say('local\n');
        await server.hears('local');
        await client.stop();
        await server.stop();
      });

      test('let the agent deliver to a registered listener of this host', async () => {
        await net.capture.apply({ ...STRICT, localPorts: [5432] });
        const server = new Pipe(here.in('nc', '-l', here[family], '5432'));
        await waitForListener(here, 5432);
        const dial = new Pipe(
          here.in('timeout', '5', process.execPath, MARKED_DIAL, here[family], '5432', String(MARK)),
        );
        await server.hears('GET');
        server.say('delivered\n');
        await dial.hears('delivered');
        await dial.stop();
        await server.stop();
      });

      test('keep exclusions of ports, addresses and ranges from opening a registered listener of this host', async () => {
        await net.capture.apply({
          ...STRICT,
          localPorts: [5432],
          exclude: {
            ...STRICT.exclude,
            outboundPorts: [5432],
            outboundAddresses: ['0.0.0.0/0', '::/0'],
          },
        });
        expect((await ask(here, here[family], 5432)).text).toStartWith('outbound');
      });

      test('keep the capture ports from being reached directly', async () => {
        await net.capture.apply(STRICT);
        const loopback = family === 'ipv4' ? '127.0.0.1' : '::1';
        for (const port of [15_001, 15_006]) {
          expect((await ask(here, loopback, port, { seconds: 1 })).text).toBe('');
          expect((await ask(here, here[family], port, { seconds: 1 })).text).toBe('');
        }
        expect((await ask(outside, here[family], 15_006, { seconds: 1 })).text).toBe('');
        expect((await ask(outside, here[family], 15_001)).text).toStartWith(`inbound ${here[family]} 15001`);
      });
    });
});
