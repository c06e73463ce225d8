import { afterEach, beforeEach, describe, expect, test } from 'bun:test';
import { createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { BlockList } from 'node:net';
import type { SpiffeId } from '../../../shared/spiffe/spiffe-id.ts';
import { waitUntil } from '../../../tests/kit/wait.ts';
import type { Arrival } from '../inbound/arrival.ts';
import type { Departure } from '../outbound/departure.ts';
import { OpenConnections } from '../connections/connections.ts';
import { clientHello } from '../fixtures/client-hello.ts';
import { InMemoryDirectory } from '../fixtures/in-memory-directory.ts';
import { JudgeRig } from '../fixtures/judge-rig.ts';
import { CALLER, OTHER, TARGET as GATEWAY } from '../fixtures/mesh-rig.ts';
import { outsideRig } from '../fixtures/outside-rig.ts';
import { ScriptedStream } from '../fixtures/scripted-stream.ts';
import { Gateway, leavingOf } from './gateway.ts';
import { GatewayReach, type GatewayNetworks } from './gateway-reach.ts';
import type { Refusal } from '../judge/judge.ts';
import { leavingOfDeparture, type Leaving } from './leaving.ts';
import type { Outside } from './outside.ts';

let rig: JudgeRig;
let directory: InMemoryDirectory;
let connections: OpenConnections;
let caller: ScriptedStream;
let accepted: number;
let denials: object[];
let earned: readonly SpiffeId[];
let loss: Refusal | undefined;
let server: Server;
let sockets: Socket[];
let heard: string;
/** What the gateway found out about servers' certificates. */
let asked: object[];
let fault: string | undefined;
let outside: Outside;

beforeEach(async () => {
  [rig, directory, connections, caller] = [
    new JudgeRig(),
    new InMemoryDirectory(),
    new OpenConnections({ max: 8, maxPerHost: 8 }),
    new ScriptedStream(),
  ];
  [accepted, denials, earned, loss, sockets, heard, asked, fault] = [
    0,
    [],
    [GATEWAY],
    undefined,
    [],
    '',
    [],
    undefined,
  ];
  directory.ownGateway = GATEWAY;
  rig.terms = () => ({ via: GATEWAY });
  server = createServer((socket) => {
    sockets.push(socket);
    socket.on('error', () => undefined);
    socket.on('data', (bytes) => (heard += bytes.toString('latin1')));
  });
  await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve));
  outside = outsideRig({
    rig,
    directory,
    connections,
    domains: { leadsTo: (domain) => Promise.resolve(domain === 'api.test') },
    certificates: {
      findFault: (at, terms) => {
        asked.push({ ...at, ...terms });
        return Promise.resolve(fault);
      },
    },
  });
});
afterEach(() => {
  connections.cutAll({ message: 'over' });
  for (const socket of sockets) socket.destroy();
  server.close();
});

/** Somebody brings a connection to the gateway. Loopback is where the server of this test is. */
function arrivalFor(destination: Arrival['destination']): Arrival {
  return {
    connectionId: 'connection',
    caller: { spiffeId: CALLER, notAfterMs: 5, serial: '0a', leaf: Buffer.from('leaf') },
    source: { address: '10.0.0.1', port: 40_000 },
    target: GATEWAY,
    destination,
    isLocal: false,
    endsAtMs: Infinity,
    process: null,
    findLoss: () => loss,
    onLeaving: () => undefined,
    accept: () => {
      accepted += 1;
      return caller;
    },
    deny: (denial) => void denials.push(denial),
  };
}

const here = () => ({ address: '127.0.0.1', port: (server.address() as AddressInfo).port });

/** Past the rule on destinations, which this test's server would not pass. */
async function takeOut(): Promise<void> {
  const arrival = arrivalFor(here());
  await outside.leave(leavingOf(arrival, { gateway: GATEWAY, reach: reachOf({}), round: connections.round }));
}

function reachOf({
  refuses = new BlockList(),
  allows = new BlockList(),
}: Partial<GatewayNetworks>): GatewayReach {
  const own = {
    earns: (id: SpiffeId) => Promise.resolve(earned.includes(id)),
    hasLost: (id: SpiffeId) => !earned.includes(id),
  };
  return new GatewayReach({ directory, own, meshPort: 15_008, refuses, allows });
}

function gatewayOf(networks: Partial<GatewayNetworks> = {}): Gateway {
  return new Gateway({ directory, reach: reachOf(networks), connections, outside, meshPort: 15_008 });
}

async function bring(
  address: string,
  networks?: Partial<GatewayNetworks>,
): Promise<Refusal['reason'] | undefined> {
  return (await gatewayOf(networks).receive(arrivalFor({ address, port: 443 }), GATEWAY))?.reason;
}

/** Whether the gateway itself would let it through; nobody is dialled. */
async function isWithinReach(address: string, networks: Partial<GatewayNetworks> = {}): Promise<boolean> {
  return (await reachOf(networks).findRefusal(GATEWAY, { address, port: 443 })) === undefined;
}

function listOf(...networks: readonly (readonly [string, number, 'ipv4' | 'ipv6'])[]): BlockList {
  const list = new BlockList();
  for (const [address, prefix, family] of networks) list.addSubnet(address, prefix, family);
  return list;
}

const EVERYTHING = listOf(['0.0.0.0', 0, 'ipv4'], ['::', 0, 'ipv6']);

describe('Gateway', () => {
  test('is for the identity that is registered at this host’s mesh port', () => {
    expect([gatewayOf().isFor(GATEWAY), gatewayOf().isFor(OTHER)]).toEqual([true, false]);
  });

  test.each([
    '127.0.0.1',
    '127.9.9.9',
    '0.0.0.0',
    '0.1.2.3',
    '::1',
    '::',
    '::ffff:127.0.0.1',
    '::ffff:169.254.1.1',
    '::7f00:1',
    '169.254.169.254',
    'fe80::1',
    'fe80::1%eth0',
    '224.0.0.1',
    '255.255.255.255',
    'ff02::1',
    '64:ff9b::127.0.0.1',
    '64:ff9b::a9fe:a9fe',
    '2002:7f00:1::1',
    '240.0.0.1',
    '192.0.0.192',
    '168.63.129.16',
    '100.100.100.200',
    '64:ff9b::100.100.100.200',
    'fd00:ec2::254',
    'fd20:ce::254',
    'fec0::1',
    '64:ff9b:1::8.8.8.8',
    '2001:0:1::1',
    '2001:db8::5efe:169.254.169.254',
    '2001:db8::200:5efe:127.0.0.1',
    '::ffff:0:127.0.0.1',
    'localhost',
    '',
  ])('takes nothing to %p, whatever its configuration allows', async (address) => {
    expect(await bring(address, { allows: EVERYTHING })).toBe('egress_deny');
    expect([accepted, rig.records]).toEqual([0, []]);
  });

  test.each([
    '10.1.2.3',
    '172.16.0.1',
    '172.31.255.255',
    '192.168.0.1',
    '100.64.0.1',
    '::ffff:10.1.2.3',
    '64:ff9b::10.1.2.3',
    '2002:c0a8:1::1',
    '2001:db8::5efe:10.1.2.3',
    'fc00::1',
    'fd12:3456::1',
  ])('takes something to %p where its configuration allows that network alone', async (address) => {
    const others = listOf(['10.200.0.0', 16, 'ipv4'], ['fd99::', 16, 'ipv6'], ['192.0.2.0', 24, 'ipv4']);
    expect(await bring(address)).toBe('egress_deny');
    expect(await bring(address, { allows: others })).toBe('egress_deny');
    expect(accepted).toBe(0);
    expect(await isWithinReach(address, { allows: EVERYTHING })).toBe(true);
    expect(await isWithinReach(address, { allows: EVERYTHING, refuses: EVERYTHING })).toBe(false);
  });

  test.each(['192.0.2.1', '8.8.8.8', '172.32.0.1', '100.128.0.1', '2001:db8::1', '64:ff9b::8.8.8.8'])(
    'may take something to %p without being told',
    async (address) => {
      expect(await isWithinReach(address)).toBe(true);
    },
  );

  test('takes nothing to hosts of the mesh, itself among them, by whatever family they are reached, nor to refused networks', async () => {
    const at = { address: '10.0.0.2', port: 443 };
    directory.put(at, { kind: 'remote', spiffeId: OTHER, protocol: 'auto' });
    directory.put({ ...at, address: '10.0.0.3' }, { kind: 'unregistered' });
    directory.put({ ...at, address: '10.0.0.4' }, { kind: 'local', spiffeId: OTHER, protocol: 'auto' });
    for (const host of [2, 3, 4])
      for (const address of [`10.0.0.${host}`, `::ffff:10.0.0.${host}`, `64:ff9b::10.0.0.${host}`])
        expect(await bring(address, { allows: EVERYTHING })).toBe('egress_deny');
    const refuses = listOf(['192.0.2.0', 24, 'ipv4'], ['2001:db8::', 32, 'ipv6']);
    for (const address of ['192.0.2.9', '64:ff9b::192.0.2.9', '2001:db8::9'])
      expect(await bring(address, { refuses })).toBe('egress_deny');
    expect(accepted).toBe(0);
  });

  test('takes nothing out while its own process does not earn the identity', async () => {
    earned = [OTHER];
    expect(await bring('192.0.2.9')).toBe('listener_unidentified');
  });
});

describe('what a program of the gateway’s own host sends through it', () => {
  /** As `takeOut`, but of a program here. */
  async function send(first?: string): Promise<void> {
    const way = outsideRig({
      rig,
      directory,
      connections,
      domains: { leadsTo: (domain) => Promise.resolve(domain === 'api.test') },
      certificates: {
        findFault: () => {
          asked.push({});
          return Promise.resolve(undefined);
        },
      },
      gateways: {
        isHere: (gateway) => gateway === GATEWAY,
        open: () => Promise.resolve({ refusal: { reason: 'target_unreachable' } }),
      },
      reach: reachOf({ allows: EVERYTHING }),
    });
    const left = way.leave(departureTo(here()));
    if (first !== undefined) caller.says(first);
    await left;
  }

  function departureTo(destination: Arrival['destination']): Leaving {
    const departure: Departure = {
      party: { name: 'user 7001' },
      stream: caller,
      source: { address: '10.0.0.1', port: 40_000 },
      destination,
      connectionId: 'connection',
      svid: null,
      identity: { kind: 'identified', spiffeId: CALLER, pid: 7, uid: 7001 },
      process: { uid: 7001, pid: 7 },
      round: connections.round,
    };
    return leavingOfDeparture(departure, () => undefined);
  }

  test('goes nowhere where the gateway takes nothing, and no handshake is made there', async () => {
    for (const terms of [{ via: GATEWAY }, { via: GATEWAY, certificate: { authority: 'partner' } }]) {
      [caller, rig.terms] = [new ScriptedStream(), () => terms];
      await send(clientHello('api.test'));
      expect(caller.abortion?.failure?.reason).toBe('egress_deny');
    }
    expect(rig.records).toMatchObject([
      { decision: 'deny', reason: 'egress_deny', direction: 'outbound', via: GATEWAY },
      { decision: 'deny', reason: 'egress_deny', direction: 'outbound', via: GATEWAY },
    ]);
    expect([asked, sockets.length]).toEqual([[], 0]);
  });

  test('goes nowhere with a request either', async () => {
    rig.egress = ({ target }) => (target.domain === undefined ? 'egress_deny' : 'policy_allow');
    await send('GET / HTTP/1.1\r\nHost: api.test\r\n\r\n');
    await waitUntil('the request is answered', () => caller.text.startsWith('HTTP/1.1 '));
    expect(caller.text).toContain('"egress_deny"');
    expect(sockets.length).toBe(0);
    expect(rig.records.at(-1)).toMatchObject({ decision: 'deny', reason: 'egress_deny', via: GATEWAY });
  });
});

describe('what comes to a gateway', () => {
  test('leaves where the policy sends the caller through it, and is recorded as the gateway’s', async () => {
    await takeOut();
    await waitUntil('the server is connected', () => sockets.length === 1);
    caller.says('hello');
    await waitUntil('the server hears it', () => heard === 'hello');
    expect(rig.records).toMatchObject([
      {
        direction: 'inbound',
        caller_spiffe_id: CALLER,
        target_spiffe_id: null,
        via: GATEWAY,
        decision: 'allow',
      },
    ]);
  });

  test('does not leave where the policy lets it out directly, or by another gateway', async () => {
    rig.asksForDomain = false;
    for (const terms of [undefined, { via: OTHER }]) {
      rig.terms = () => terms;
      await takeOut();
    }
    expect(denials).toMatchObject([{ reason: 'egress_deny' }, { reason: 'egress_deny' }]);
    expect([accepted, sockets.length]).toEqual([0, 0]);
  });

  test('leaves by its name, if that leads there, by the gateway’s own look', async () => {
    rig.egress = ({ target }) => (target.domain === undefined ? 'egress_deny' : 'policy_allow');
    const left = takeOut();
    caller.says(clientHello('api.test'));
    await left;
    await waitUntil('the server hears it', () => heard === clientHello('api.test'));
    expect(rig.records).toMatchObject([{ decision: 'allow', server_name: 'api.test', via: GATEWAY }]);
    caller = new ScriptedStream();
    const lied = takeOut();
    caller.says(clientHello('other.test'));
    await lied;
    expect(caller.abortion?.failure?.reason).toBe('domain_unverified');
  });

  test('waits for the certificate that the policy names, and is refused without it', async () => {
    rig.terms = () => ({ via: GATEWAY, certificate: { authority: 'partner' } });
    fault = 'it is another';
    const left = takeOut();
    caller.says(clientHello('api.test'));
    await left;
    expect(asked).toEqual([{ ...here(), serverName: 'api.test', authority: 'partner' }]);
    expect(caller.abortion?.failure).toMatchObject({
      reason: 'certificate_refused',
      message: 'it is another',
    });
    expect(rig.records).toMatchObject([{ reason: 'certificate_refused', via: GATEWAY, protocol: 'tls' }]);
    expect(sockets).toEqual([]);
  });

  test('is cut when the caller’s certificate is good no more, the gateway is in quarantine or none any more, or other terms are made', async () => {
    const causes: readonly [string, () => void][] = [
      ['caller_untrusted', () => (loss = { reason: 'caller_untrusted' })],
      ['quarantined', () => (rig.hold = ({ target }) => (target.spiffeId === GATEWAY ? 'held' : undefined))],
      ['listener_not_registered', () => (directory.ownGateway = undefined)],
      ['listener_unidentified', () => (earned = [OTHER])],
      ['egress_deny', () => (rig.terms = () => ({ via: OTHER }))],
      ['egress_deny', () => (rig.egress = () => 'egress_deny')],
    ];
    for (const [reason, happen] of causes) {
      [caller, loss, rig.hold] = [new ScriptedStream(), undefined, () => undefined];
      [rig.terms, rig.egress] = [() => ({ via: GATEWAY }), () => 'policy_allow'];
      [directory.ownGateway, earned] = [GATEWAY, [GATEWAY]];
      await takeOut();
      connections.reconsiderAll();
      expect(caller.abortion).toBeUndefined();
      happen();
      connections.reconsiderAll();
      expect(caller.abortion?.failure?.reason as string).toBe(reason);
    }
  });
});
