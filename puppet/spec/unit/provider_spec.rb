# frozen_string_literal: true

require 'spec_helper'

# What the provider asks for, and what it makes of each answer. Against a real etcd it is tested with `puppet apply`.
describe Puppet::Type.type(:distlock).provider(:cli) do
  let(:refused) { PuppetX::Distlock::Refused }
  let(:asked) { [] }
  let(:answers) { [] }
  let(:mine) { { 'owner' => "puppet:#{Puppet[:certname]}", 'state' => 'held', 'token' => 7, 'lock' => 'x' } }
  let(:me) { mine['owner'] }

  let(:started) { [] }
  let(:ended) { [] }

  def answer_to(*question)
    asked << question
    answer = answers.shift
    raise answer if answer.is_a?(Exception)

    answer
  end

  before(:each) do
    allow(PuppetX::Distlock::Command).to receive(:ask) { |program, words| answer_to(program, words, nil) }
    allow(PuppetX::Distlock::Conversation).to receive(:new) do |program, words|
      started << program
      conversation = instance_double(PuppetX::Distlock::Conversation)
      allow(conversation).to receive(:ask) { |request| answer_to(program, words, request) }
      allow(conversation).to receive(:close) { ended << program }
      conversation
    end
  end

  def provider(**attributes)
    resource = Puppet::Type.type(:distlock).new(name: 'x', **attributes)
    resource.provider
  end

  def locked(**more)
    { 'locked' => { 'changed' => true, 'owner' => me, 'holder' => nil, 'before' => nil, 'waits' => '' }.merge(more.transform_keys(&:to_s)) }
  end

  def unlocked(holder)
    { 'unlocked' => { 'changed' => !holder.nil?, 'owner' => me, 'holder' => holder, 'around' => nil } }
  end

  it 'asks for nothing but what was said, as JSON' do
    answers << locked
    provider(reason: '$(id)', timeout: 5, endpoints: ['http://a', 'http://b']).look(:locked)
    program, words, request = asked.first
    expect([program, words]).to eq(['distlock-puppet', ['resource']])
    expect(request).to include(want: :locked, owner: me, run: Process.pid, bound: false, force: false, dry_run: true)
    expect(request[:settings]).to eq(lockname: 'x', reason: '$(id)', timeout: 5, endpoints: 'http://a,http://b')
  end

  it 'looks and changes in one process, which ends with the change' do
    answers << locked << locked(holder: mine)
    changing = provider
    expect([changing.look(:locked), started.size, ended.size]).to eq([:unlocked, 1, 0])
    changing.lock
    expect([started.size, ended.size]).to eq([1, 1])
    expect(asked.map { |_, _, request| request.values_at(:dry_run, :more) }).to eq([[true, true], [false, false]])
  end

  it 'leaves no process behind where nothing is changed' do
    answers << locked(changed: false, holder: mine) << refused.new('busy', 'x is held by node-3') << locked
    looking = provider
    [:locked, :held].each { |found| expect(looking.look(:locked)).to eq(found) }
    expect(provider(noop: true).look(:locked)).to eq(:unlocked)
    expect([started.size, ended.size]).to eq([3, 3])
  end

  it 'sees a lock of its own as locked' do
    answers << locked(changed: false, holder: mine)
    expect(provider.look(:locked)).to eq(:locked)
  end

  it 'sees a free lock as unlocked' do
    answers << locked
    expect(provider.look(:locked)).to eq(:unlocked)
  end

  ['busy', 'frozen'].each do |kind|
    it "sees a lock that is #{kind} as held, and keeps the reason for noop" do
      answers << refused.new(kind, 'x is held by node-3')
      looking = provider
      expect([looking.look(:locked), looking.seen]).to eq([:held, 'x is held by node-3'])
    end
  end

  it 'fails with one line when the question cannot be answered' do
    answers << refused.new('unreachable', 'no etcd answered')
    expect { provider.look(:locked) }.to raise_error(Puppet::Error, 'no etcd answered')
  end

  it 'fails with the name of the holder' do
    answers << refused.new('busy', 'x is held by node-3')
    expect { provider.lock }.to raise_error(Puppet::Error, 'x is held by node-3')
  end

  it 'binds to the process of the run' do
    answers << locked(holder: mine)
    locking = provider(until: 'run_end', ttl: 30)
    locking.lock
    expect(asked.first.last).to include(bound: true, run: Process.pid, dry_run: false)
    expect(locking.done).to eq("x is locked by #{me}, token 7, until this run ends")
  end

  it 'says that it has taken over from a dead run' do
    answers << locked(holder: mine, before: mine)
    locking = provider
    locking.lock
    expect(locking.done).to match(%r{taken over .* token 7})
  end

  {
    nil => :unlocked,
    { 'state' => 'held' } => :locked,
    { 'state' => 'cooling' } => :cooling,
    { 'state' => 'kept' } => :held,
    { 'owner' => 'another', 'state' => 'held' } => :held,
  }.each do |holder, state|
    it "sees what unlocking would end, #{holder.inspect}, as #{state}" do
      answers << unlocked(holder && mine.merge(holder))
      expect(provider(ensure: 'unlocked').look(:unlocked)).to eq(state)
    end
  end

  it 'unlocks with what it was told' do
    answers << unlocked(mine)
    letting_go = provider(ensure: 'unlocked', force: true, cooldown: 60, owner: 'db1')
    letting_go.unlock
    expect(asked.first.last).to include(want: :unlocked, force: true, settings: { lockname: 'x', cooldown: 60, id: 'db1' })
    expect(letting_go.done).to eq("x, which was held by #{me}, is unlocked in 60 s")
  end

  it "does not unlock another's, and says whose it is" do
    answers << refused.new('not_holder', 'x is held by node-3: left alone')
    expect { provider(ensure: 'unlocked').unlock }.to raise_error(Puppet::Error, 'x is held by node-3: left alone')
  end

  it 'leaves the lock of the command around this run' do
    answers << { 'unlocked' => { 'changed' => false, 'owner' => me, 'holder' => nil, 'around' => mine } }
    expect(provider(ensure: 'unlocked').look(:unlocked)).to eq(:unlocked)
  end

  it 'tells how it has waited' do
    answers << locked(holder: mine, waited: { 'story' => 'after 4m12s in the queue from position 2, behind node-3' })
    locking = provider
    locking.lock
    expect(locking.done).to eq("x is locked by #{me}, token 7, after 4m12s in the queue from position 2, behind node-3")
  end

  it 'shows a lock that nobody holds' do
    answers << { 'locks' => [{ 'lock' => 'x', 'owner' => nil, 'token' => nil, 'waiting' => 0 }] }
    expect([provider.show, asked.first[1]]).to eq([:unlocked, ['--json', '--show', '--lock-name=x']])
  end

  context 'with noop' do
    let(:catalog) { Puppet::Resource::Catalog.new }

    def add(**attributes)
      resource = Puppet::Type.type(:distlock).new(noop: true, **attributes)
      catalog.add_resource(resource)
      resource.provider
    end

    it 'finds further down what a real run would have left' do
      answers << locked
      first = add(name: 'x')
      last = add(name: 'done', lock_name: 'x', ensure: 'unlocked')
      other = add(name: 'again', lock_name: 'x')
      expect([first.look(:locked), last.look(:unlocked), other.look(:locked)]).to eq([:unlocked, :locked, :unlocked])
      expect(asked.length).to eq(1)
    end

    it 'plans nothing on a lock that is not to be had' do
      answers.push(refused.new('busy', 'held'), unlocked(nil))
      add(name: 'x').look(:locked)
      expect(add(name: 'done', lock_name: 'x', ensure: 'unlocked').look(:unlocked)).to eq(:unlocked)
    end
  end

  it 'lists every lock, one resource for each name' do
    hold = mine.merge('since' => 0, 'reason' => 'why', 'lifetime' => 'persistent', 'waiting' => 2)
    other = hold.merge('lock' => 'y', 'owner' => 'node-3')
    free = { 'lock' => 'z', 'owner' => nil, 'token' => nil, 'waiting' => 1 }
    answers << { 'locks' => [hold, other, other.merge('owner' => 'node-4', 'slot' => 1), free] }
    found = described_class.instances.to_h { |one| [one.name, one] }
    expect(found.transform_values { |one| one.get(:ensure) }).to eq('x' => :locked, 'y' => :held, 'z' => :unlocked)
    expect([found['y'].held_by, found['x'].held_reason, found['x'].waiting]).to eq(['node-3, node-4', 'why', 2])
  end
end
