import { mkdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { z } from 'zod';
import { run, runOk } from './child.ts';
import type { TestHost } from './netns.ts';
import type { PodNetwork, TestPod } from './pods.ts';

/** Pods as container runtimes make them: a namespace under `/run/netns`, whose network the CNI plug-ins `ptp` and `host-local` make. */
export class CniNetwork {
  readonly #host: TestHost;
  readonly #plugin: string;
  readonly #config: string;

  /** `folder`: where `host-local` writes down which addresses are taken. */
  constructor({ number, host }: PodNetwork, folder: string) {
    this.#host = host;
    this.#plugin = Bun.which('ptp') ?? missing();
    mkdirSync(folder, { recursive: true });
    this.#config = JSON.stringify({
      cniVersion: '1.0.0',
      name: `pods${number}`,
      type: 'ptp',
      ipam: {
        type: 'host-local',
        dataDir: join(folder, 'networks'),
        ranges: [[{ subnet: `10.8.${number}.0/24` }], [{ subnet: `fd08:${number}::/64` }]],
        routes: [{ dst: '0.0.0.0/0' }, { dst: '::/0' }],
      },
    });
  }

  /** Makes a pod; its addresses are the next ones that are free. */
  async createPod(name: string): Promise<TestPod> {
    await runOk(['ip', 'netns', 'add', name]);
    const within = (...command: string[]): string[] => ['nsenter', `--net=/run/netns/${name}`, ...command];
    // As the plug-in `loopback` does.
    await runOk(within('ip', 'link', 'set', 'lo', 'up'));
    // Addresses of IPv6 are not to be tried out for a second before they count.
    await runOk(within('sysctl', '-qw', 'net.ipv6.conf.default.accept_dad=0'));
    const result = cniResult.parse(JSON.parse(await this.#call('ADD', name)));
    const [ipv4 = '', ipv6 = ''] = result.ips.map(({ address }) => address.split('/')[0]);
    return {
      name,
      ipv4,
      ipv6,
      path: `/run/netns/${name}`,
      in: within,
      runOk: async (...command) => await runOk(within(...command)),
      remove: async () => {
        await this.#call('DEL', name);
        await run(['ip', 'netns', 'del', name]);
      },
    };
  }

  async #call(command: 'ADD' | 'DEL', name: string): Promise<string> {
    const environment = {
      CNI_COMMAND: command,
      CNI_CONTAINERID: name,
      CNI_NETNS: `/run/netns/${name}`,
      CNI_IFNAME: 'eth0',
      CNI_PATH: dirname(this.#plugin),
    };
    const settings = Object.entries(environment).map(([key, value]) => `${key}=${value}`);
    return await runOk(this.#host.in('env', ...settings, this.#plugin), { stdin: this.#config });
  }
}

/** CNI specification 1.0.0, "ADD success". */
const cniResult = z.object({ ips: z.array(z.object({ address: z.string() })) });

function missing(): never {
  throw new Error('The CNI plug-in ptp is missing: scripts/setup.sh builds it');
}
