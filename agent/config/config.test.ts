import { describe, expect, test } from 'bun:test';
import { PicketError } from '../../shared/errors/errors.ts';
import { parseSpiffeId } from '../../shared/spiffe/spiffe-id.ts';
import { AGENT_CONFIG_EXAMPLE } from './config-example.ts';
import { captureSettingsOf, enclosedSettingsOf, parseAgentConfig } from './config.ts';

const MINIMAL = {
  trust_domain: 'example.org',
  servers: ['server.example.org:8443'],
  trust: { bundle_file: '/etc/picket/bundle.pem' },
  attestation: { tpm: {} },
};

function faultsOf(change: object): readonly string[] {
  try {
    parseAgentConfig({ ...MINIMAL, ...change });
  } catch (error) {
    if (!(error instanceof PicketError)) throw error;
    expect(error).toMatchObject({ code: 'invalid_argument', reason: 'config_invalid' });
    const { faults } = error.details as { readonly faults: readonly { readonly message: string }[] };
    return faults.map(({ message }) => message);
  }
  throw new Error('It was expected to be refused and was not');
}

const ISSUER = { name: 'corp', issuer: 'https://login', audiences: ['shop'], keys_file: '/keys.json' };

describe('parseAgentConfig()', () => {
  test('parseAgentConfig() takes the example, whose values are the defaults', () => {
    expect(parseAgentConfig(Bun.YAML.parse(AGENT_CONFIG_EXAMPLE))).toEqual(parseAgentConfig(MINIMAL));
  });

  test('parseAgentConfig() derives the files from data_dir', () => {
    expect(parseAgentConfig({ ...MINIMAL, data_dir: '/srv/p' })).toMatchObject({
      dataDirectory: '/srv/p',
      sealKeyFile: '/srv/p/seal.key',
      capture: { rulesFile: '/srv/p/capture.nft' },
      audit: { directory: '/srv/p/audit' },
    });
  });

  test('parseAgentConfig() keeps no value of a query in records unless told otherwise', () => {
    const queriesOf = (more: object) => parseAgentConfig({ ...MINIMAL, ...more }).audit.queries;
    expect([queriesOf({}), queriesOf({ audit: { queries: 'full' } })]).toEqual(['names', 'full']);
  });

  test('parseAgentConfig() reads by what TLS is inspected, which is nothing unless given', () => {
    const inspection = { certificate_file: '/etc/picket/i.pem', key_file: '/etc/picket/i.key' };
    expect(parseAgentConfig(MINIMAL).egress.inspection).toBeUndefined();
    expect(parseAgentConfig({ ...MINIMAL, egress: { inspection } }).egress.inspection).toEqual({
      certificateFile: '/etc/picket/i.pem',
      keyFile: '/etc/picket/i.key',
      serverAuthoritiesFile: undefined,
    });
    const faulty = { certificate_file: 'i.pem', key: '/etc/picket/i.key' };
    expect(faultsOf({ egress: { inspection: faulty } })).toHaveLength(3);
  });

  test.each([
    [
      'capture.exclude.outbound_addresses.0: must be an address or a network',
      { capture: { exclude: { outbound_addresses: ['192.0.2.1/33'] } } },
    ],
    [
      'capture.allow_udp.0.address: must be an address or a network',
      { capture: { allow_udp: [{ address: 'dns', port: 53 }] } },
    ],
    ['capture.transparent_id: must not be capture.mark', { capture: { transparent_id: 0x5049 } }],
    [
      'capture.exclude.inbound_ports: must not name a port of the agent',
      { capture: { exclude: { inbound_ports: [15_008] } } },
    ],
    ['egress.gateway_refuses.0: must be an address or a network', { egress: { gateway_refuses: ['there'] } }],
    [
      'egress.gateway_allows.0: must be an address or a network',
      { egress: { gateway_allows: ['10.0.0.0/33'] } },
    ],
    ...['8.8.8.8', '203.0.113.0/24', '2001:db8::/32', '169.254.169.254', '::ffff:10.0.0.0/104'].map(
      (network) =>
        [
          'egress.gateway_allows.1: has no inside address (10.0.0.0/8, ',
          { egress: { gateway_allows: ['10.20.0.0/16', network] } },
        ] as const,
    ),
    [
      'egress.authorities.Partner CA: must be a name such as',
      { egress: { authorities: { 'Partner CA': '/ca.pem' } } },
    ],
    ['networks.Office: must be 1 to 32 lower-case letters', { networks: { Office: ['10.0.0.0/8'] } }],
    ['addresses.0: is not an IPv4 or IPv6 address', { addresses: ['web-1'] }],
  ])('parseAgentConfig() names the setting, and what is wrong: %s', (fault, change) => {
    const [told, ...more] = faultsOf(change);
    expect(told).toStartWith(fault);
    expect(more).toEqual([]);
  });

  test.each([-1, 17, 0.5, 'auto'])('parseAgentConfig() refuses %p spares', (spares) => {
    const [fault, ...more] = faultsOf({ mesh: { spares } });
    expect(fault).toStartWith('mesh.spares');
    expect(more).toEqual([]);
  });

  test('parseAgentConfig() reads peers of other meshes, each with the identity that must answer', () => {
    const peer = { addresses: ['10.1.0.7'], ports: [80], spiffe_id: 'spiffe://Istio.test/ns/a/sa/b' };
    const { mesh } = parseAgentConfig({ ...MINIMAL, mesh: { hbone: { accept: false, peers: [peer] } } });
    expect(mesh.hbone).toEqual({
      isAccepted: false,
      peers: [
        { addresses: ['10.1.0.7'], ports: [80], spiffeId: parseSpiffeId('spiffe://istio.test/ns/a/sa/b') },
      ],
    });
  });

  test.each([
    ['two identities for one port', [{}, { spiffe_id: 'spiffe://istio.test/other' }]],
    ['the identity of an agent', [{ spiffe_id: 'spiffe://istio.test/picket/agent/tpm/a' }]],
    ['no identity', [{ spiffe_id: undefined }]],
    ['a name', [{ addresses: ['pod.example.org'] }]],
    ['no address', [{ addresses: [] }]],
    ['no port', [{ ports: [] }]],
  ])('parseAgentConfig() refuses a peer of another mesh with %s', (_, changes) => {
    const peers = changes.map((change) => ({
      addresses: ['10.1.0.7'],
      spiffe_id: 'spiffe://istio.test/a',
      ...change,
    }));
    const [fault, ...more] = faultsOf({ mesh: { hbone: { peers } } });
    expect(fault).toStartWith('mesh.hbone.peers');
    expect(more).toEqual([]);
  });

  test('parseAgentConfig() reads servers by name, IPv4 and IPv6', () => {
    const { servers } = parseAgentConfig({
      ...MINIMAL,
      servers: ['a.example:1', '10.0.0.1:8443', '[fd00::1]:65535'],
    });
    expect(servers).toEqual([
      { host: 'a.example', port: 1 },
      { host: '10.0.0.1', port: 8443 },
      { host: 'fd00::1', port: 65_535 },
    ]);
  });

  test('parseAgentConfig() reads each kind of trust and attestation', () => {
    const sha256 = 'ab'.repeat(32);
    const pinned = parseAgentConfig({
      ...MINIMAL,
      trust: { root_key_sha256: sha256 },
      attestation: { join_token: 'secret' },
    });
    expect(pinned.trust).toEqual({ kind: 'pin', sha256 });
    expect(pinned.attestation).toEqual({ kind: 'join_token', token: 'secret' });
    const file = parseAgentConfig({ ...MINIMAL, attestation: { join_token_file: '/t' } });
    expect(file.attestation).toEqual({ kind: 'join_token_file', path: '/t' });
  });

  test('parseAgentConfig() reads namespaces, whose addresses are steered, and refuses what they cannot have', () => {
    const namespaces = [
      { name: 'shop', addresses: ['10.8.0.2', 'FD08::2'] },
      { name: 'bank', path: '/var/run/bank', addresses: ['10.8.0.3'] },
    ];
    const config = parseAgentConfig({ ...MINIMAL, capture: { namespaces } });
    expect(config.capture.namespaces.named).toEqual([
      {
        name: 'shop',
        label: 'shop',
        path: '/run/netns/shop',
        addresses: ['10.8.0.2', 'fd08::2'],
        routedIn: [],
      },
      { name: 'bank', label: 'bank', path: '/var/run/bank', addresses: ['10.8.0.3'], routedIn: [] },
    ]);
    const host = { sshPorts: [], localPorts: [], agentUid: 0 };
    expect(captureSettingsOf(config, host).namespaceAddresses).toEqual(['10.8.0.2', 'fd08::2', '10.8.0.3']);
    for (const capture of [
      { namespaces: [namespaces[0], { name: 'other', addresses: ['fd08:0::2'] }] },
      { namespaces: [namespaces[0], { name: 'shop', addresses: ['10.8.0.9'] }] },
      { namespaces: [namespaces[0], { name: 'o', path: '/run//netns/shop', addresses: ['10.8.0.9'] }] },
      { namespaces: [{ name: 'loop', addresses: ['127.0.0.1'] }] },
      { namespaces: [{ name: 'a:b', addresses: ['10.8.0.2'] }] },
      { namespaces: [{ name: 'none', addresses: [] }] },
      { namespaces, enabled: false },
    ])
      expect(faultsOf({ capture })).toHaveLength(1);
  });

  test('parseAgentConfig() reads patterns of namespaces, whose networks are steered, and refuses what they cannot have', () => {
    const pods = { name: 'pods', pattern: 'cni-*', addresses_in: ['10.8.1.9/24', 'fd08::/64'] };
    const jails = { name: 'jails', pattern: '?', folder: '/jails', addresses_in: ['10.9.0.0/16'], most: 9 };
    const config = parseAgentConfig({ ...MINIMAL, capture: { namespaces: [pods, jails] } });
    expect(config.capture.namespaces.patterns).toMatchObject([
      { label: 'pods', folder: '/run/netns', pattern: 'cni-*', most: 110 },
      { label: 'jails', folder: '/jails', pattern: '?', most: 9 },
    ]);
    const host = { sshPorts: [], localPorts: [], agentUid: 0 };
    const networks = ['10.8.1.0/24', 'fd08::/64', '10.9.0.0/16'];
    expect(captureSettingsOf(config, host).namespaceAddresses).toEqual(networks);
    for (const change of [
      { pattern: 'a/b' },
      { pattern: '{a,b}' },
      { addresses_in: undefined },
      { addresses_in: [] },
      { addresses_in: ['0.0.0.0/0'] },
      { addresses_in: ['127.0.0.0/8'] },
      { addresses_in: ['::/64'] },
      { addresses: ['10.8.1.2'] },
      { path: '/run/netns/x' },
      { most: 0 },
      { most: 257 },
    ])
      expect(faultsOf({ capture: { namespaces: [{ ...pods, ...change }] } })).toHaveLength(1);
    const named = { name: 'one', addresses: ['10.8.0.2'] };
    for (const change of [{ folder: '/x' }, { most: 3 }, { addresses_in: ['10.8.0.0/24'] }])
      expect(faultsOf({ capture: { namespaces: [{ ...named, ...change }] } })).toHaveLength(1);
    const many = [1, 2, 3].map((number) => ({ ...pods, name: `p${number}` }));
    expect(faultsOf({ capture: { namespaces: many } })).toEqual([
      'capture.namespaces: must be at most 256 by most, together',
    ]);
  });

  test('enclosedSettingsOf() leaves nothing alone within a namespace', () => {
    const exclude = {
      inbound_ports: [22],
      outbound_ports: [1],
      outbound_addresses: ['192.0.2.0/24'],
      users: [7],
    };
    const config = parseAgentConfig({ ...MINIMAL, capture: { exclude } });
    const nothing = { inboundPorts: [], outboundPorts: [], outboundAddresses: [], users: [] };
    expect(enclosedSettingsOf(config, { localPorts: [80], agentUid: 0 }).exclude).toEqual(nothing);
  });

  test('parseAgentConfig() leaves out metrics and readiness where they are null', () => {
    const config = parseAgentConfig({ ...MINIMAL, metrics_address: null, readiness_address: null });
    expect([config.metrics, config.readiness]).toEqual([undefined, undefined]);
  });

  test.each([
    ['an unknown key', { typo: 1 }],
    ['an unknown key within', { capture: { exclude: { inbound_port: [22] } } }],
    ['a foreign trust domain', { trust_domain: 'Example.org' }],
    ['no server', { servers: [] }],
    ['a server without port', { servers: ['server'] }],
    ['a server at port 0', { servers: ['server:0'] }],
    ['a server at port 65536', { servers: ['server:65536'] }],
    ['a server with a path', { servers: ['server:1/x'] }],
    ['an IPv6 server that is none', { servers: ['[::zz]:1', '[1:2]:1'] }],
    ['no trust', { trust: {} }],
    ['two kinds of trust', { trust: { bundle_file: '/a', root_key_sha256: 'ab'.repeat(32) } }],
    ['a short pin', { trust: { root_key_sha256: 'ab' } }],
    ['no attestation', { attestation: {} }],
    ['two kinds of attestation', { attestation: { join_token: 'a', tpm: {} } }],
    ['a relative path', { data_dir: 'var' }],
    ['a socket path that the kernel cannot take', { sockets: { admin: `/${'a'.repeat(107)}` } }],
    ['two equal ports', { ports: { inbound: 15_001 } }],
    ['metrics for everybody', { metrics_address: '0.0.0.0:15020' }],
    ['readiness on a name', { readiness_address: 'localhost:15021' }],
    ['mark 0', { capture: { mark: 0 } }],
    ['a backend that is none', { capture: { backend: 'iptables' } }],
    ['a relative folder for programs', { capture: { bpf_dir: 'bpf' } }],
    ['a network that is none', { networks: { office: ['192.0.2.0/33'] } }],
    ['a network without a name', { networks: { '': ['192.0.2.0/24'] } }],
    ['a network of no addresses', { networks: { office: [] } }],
    ['an issuer without keys', { users: { issuers: [{ ...ISSUER, keys_file: undefined }] } }],
    [
      'an issuer with two kinds of keys',
      { users: { issuers: [{ ...ISSUER, keys_url: 'https://i.example/k' }] } },
    ],
    [
      'keys in plaintext',
      { users: { issuers: [{ ...ISSUER, keys_file: undefined, keys_url: 'http://i.example/k' }] } },
    ],
    [
      'a password for keys',
      { users: { issuers: [{ ...ISSUER, keys_file: undefined, keys_url: 'https://a:b@i.example/k' }] } },
    ],
    ['an issuer without audience', { users: { issuers: [{ ...ISSUER, audiences: [] }] } }],
    ['no algorithm', { users: { issuers: [{ ...ISSUER, algorithms: [] }] } }],
    ['an algorithm by a secret', { users: { issuers: [{ ...ISSUER, algorithms: ['HS256'] }] } }],
    ['no algorithm at all', { users: { issuers: [{ ...ISSUER, algorithms: ['none'] }] } }],
    ['two issuers of one name', { users: { issuers: [ISSUER, { ...ISSUER, issuer: 'https://other' }] } }],
    ['one issuer twice', { users: { issuers: [ISSUER, { ...ISSUER, name: 'other' }] } }],
    ['a name with a colon', { users: { issuers: [{ ...ISSUER, name: 'corp:x' }] } }],
    ['traces to nowhere', { traces: {} }],
    ['traces in plaintext', { traces: { endpoint: 'http://collector.example:4318/v1/traces' } }],
    ['traces to what looks like loopback', { traces: { endpoint: 'http://127.0.0.1.example/v1/traces' } }],
    [
      'traces to what looks like loopback before its host',
      { traces: { endpoint: 'http://127.0.0.1:1@collector.example/' } },
    ],
    ['traces by another protocol', { traces: { endpoint: 'file:///etc/passwd' } }],
    ['more than all traces', { traces: { endpoint: 'https://c.example/v1/traces', ratio: 2 } }],
    ['a spool of a byte', { audit: { max_bytes: 1 } }],
    ['a durability of another kind', { audit: { durability: 'none' } }],
    ['queries of another kind', { audit: { queries: 'all' } }],
    ['nothing at all for a limit', { limits: { connections: 0 } }],
  ])('parseAgentConfig() refuses %s and names the setting', (_name, change) => {
    const [key = ''] = Object.keys(change);
    const faults = faultsOf(change);
    expect(faults.length).toBeGreaterThan(0);
    expect(faults.join('\n')).toContain(key);
  });

  test.each([[null], ['text'], [[]], [7]])('parseAgentConfig() refuses %p for a whole file', (value) => {
    expect(() => parseAgentConfig(value)).toThrow(PicketError);
  });
});

test('parseAgentConfig() captures by nftables unless told otherwise, and remembers more connections than it may carry', () => {
  const choiceOf = (more: object) => parseAgentConfig({ ...MINIMAL, ...more }).capture.choice;
  expect(choiceOf({})).toEqual({
    backend: 'nftables',
    bpfFolder: '/sys/fs/bpf/picket',
    cgroup: undefined,
    maxRecords: 40_000,
  });
  const capture = { backend: 'ebpf', bpf_dir: '/sys/fs/bpf/p', cgroup: '/sys/fs/cgroup' };
  expect(choiceOf({ capture, limits: { connections: 1 } })).toEqual({
    backend: 'ebpf',
    bpfFolder: '/sys/fs/bpf/p',
    cgroup: '/sys/fs/cgroup',
    maxRecords: 16_384,
  });
  expect(choiceOf({ limits: { connections: 1_000_000 } }).maxRecords).toBe(1_048_576);
});

test('captureSettingsOf() keeps SSH out whatever the file says, once', () => {
  const config = parseAgentConfig({ ...MINIMAL, capture: { exclude: { inbound_ports: [9100] } } });
  const settings = captureSettingsOf(config, { sshPorts: [2222, 9100], localPorts: [80], agentUid: 7 });
  expect(settings.exclude.inboundPorts).toEqual([9100, 2222]);
  expect(settings).toMatchObject({ localPorts: [80], agentUid: 7, mark: 0x5049 });
});

test('parseAgentConfig() reads networks and issuers', () => {
  const config = parseAgentConfig({
    ...MINIMAL,
    networks: { office: ['192.0.2.9/24', '2001:db8::/32'] },
    users: { issuers: [ISSUER] },
  });
  expect([...config.networks]).toEqual([
    [
      'office',
      [
        { family: 'ip', address: '192.0.2.0', prefixBits: 24 },
        { family: 'ip6', address: '2001:db8::', prefixBits: 32 },
      ],
    ],
  ]);
  expect(config.issuers).toEqual([
    {
      name: 'corp',
      issuer: 'https://login',
      audiences: ['shop'],
      keys: { kind: 'file', path: '/keys.json' },
      algorithms: ['RS256', 'PS256', 'ES256', 'EdDSA'],
      refreshMs: 300_000,
      maxKeyAgeMs: 86_400_000,
    },
  ]);
});
