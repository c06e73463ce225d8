import { describe, expect, test } from 'bun:test';
import { PicketError } from '../shared/errors/errors.ts';
import { AGENT_CONFIG_EXAMPLE } from './config-example.ts';
import { captureSettingsOf, parseAgentConfig } from './config.ts';

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
    ['a spool of a byte', { audit: { max_bytes: 1 } }],
    ['a durability of another kind', { audit: { durability: 'none' } }],
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

  test('parseAgentConfig() refuses exclusions that no rule can express', () => {
    const capture = { exclude: { outbound_addresses: ['192.0.2.1/33'] } };
    expect(() => parseAgentConfig({ ...MINIMAL, capture })).toThrow('192.0.2.1/33');
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
