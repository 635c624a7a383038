// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** What the log says of policies that fail. */
import t from 'tap';
import { anonymous } from '../../src/access/identity.js';
import { openAuthorizer } from '../../src/access/policy/authorize.js';
import { tellPolicyFailures } from '../../src/access/policy/tell-failures.js';

void t.test('whoever invents names fills no log', (t) => {
  const told: string[] = [];
  const clock = { ms: 0 };
  const tell = tellPolicyFailures(
    (message) => told.push(message),
    () => clock.ms,
  );
  const rules = {
    repository: ['a', 'b'].map((namespace) => ({ namespace, policy_default_allow: false, policies: ['identity.claims.nothing == "x"'] })),
    admin: [],
    openToAll: false,
    hasIdentities: true,
  };
  const authorizer = openAuthorizer(rules, tell);
  let asked = 0;
  const ask = (namespace: string): void => {
    const more = { reference: '', digest: '', ip: '192.0.2.7', method: 'GET' };
    t.equal(authorizer.decide(anonymous, { action: 'get-blob', namespace: `${namespace}/${asked++}`, ...more }).outcome, 'denied');
  };
  for (let count = 0; count < 100; count++) ask('a');
  t.match(told, [/^a policy failed, so it denied get-blob in a\/0 to anonymous: repository\[0\]/], 'once');
  ask('b');
  t.match(told[1], /repository\[1\]/, 'each rule');
  clock.ms += 60_000;
  ask('a');
  ask('a');
  t.equal(told.length, 3, 'again after a minute');
  t.match(told[2], /99 more times since the last line/);
  t.end();
});
