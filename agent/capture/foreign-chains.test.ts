import { expect, test } from 'bun:test';
import { findForeignChains } from './foreign-chains.ts';

const LISTING = `table inet picket {
	chain guard_input {
		type filter hook input priority 0; policy drop;
	}
}
table ip nat {
	chain DOCKER {
	}
	chain PREROUTING {
		type nat hook prerouting priority -100; policy accept;
	}
	chain KUBE-SERVICES {
	}
}
table inet filter {
	chain input {
		type filter hook input priority 0; policy drop;
	}
	chain forward {
		type filter hook forward priority 0; policy drop;
	}
}
table ip early {
	chain masks {
		type nat hook postrouting priority -150; policy accept;
	}
	chain usual {
		type nat hook postrouting priority 100; policy accept;
	}
}
table inet firewalld {
	chain filter_OUTPUT {
		type filter hook output priority 10; policy drop;
	}
}
`;

test('findForeignChains() names the programs that have rules, the chains that drop what this host receives or sends, and those that translate before ours', () => {
  expect(findForeignChains(LISTING)).toEqual({
    programs: ['Docker', 'kube-proxy', 'firewalld'],
    dropping: ['inet filter input (input)', 'inet firewalld filter_OUTPUT (output)'],
    translating: ['ip early masks'],
  });
});

test('findForeignChains() finds nothing in our own rules, nor in nothing', () => {
  const ours = LISTING.slice(0, LISTING.indexOf('table ip nat'));
  for (const listing of [ours, ''])
    expect(findForeignChains(listing)).toEqual({ programs: [], dropping: [], translating: [] });
});
