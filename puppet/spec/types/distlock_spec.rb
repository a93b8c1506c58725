# frozen_string_literal: true

require 'spec_helper'

describe 'distlock' do
  let(:title) { 'percona_prod' }

  it { is_expected.to be_valid_type.with_provider(:cli) }
  it { is_expected.to be_valid_type.with_properties([:ensure, :held_by, :held_since, :held_reason, :lifetime, :token, :waiting]) }
  it do
    is_expected.to be_valid_type.with_parameters(
      [:name, :lock_name, :reason, :timeout, :owner, :until, :ttl, :on_loss, :slots, :force, :cooldown, :endpoints,
       :prefix, :config, :connect_timeout],
    )
  end
  it { is_expected.to be_valid_type.with_set_attributes(ensure: :locked) }

  {
    'a reason to unlock' => { ensure: 'unlocked', reason: 'x' },
    'force to lock' => { ensure: 'locked', force: true },
    'a cooldown to lock' => { cooldown: 3 },
    'a ttl for a lock that stays' => { ttl: 60 },
    'on_loss for a lock that stays' => { on_loss: 'kill' },
    'an unknown end' => { until: 'tomorrow' },
    'a timeout that is none' => { timeout: 'soon' },
    'a ttl of nothing' => { until: 'run_end', ttl: 0 },
    'no slots' => { slots: 0 },
    'an ensure that is only shown' => { ensure: 'held' },
    'a holder' => { held_by: 'x' },
    'a token' => { token: 1 },
  }.each do |what, attributes|
    it "refuses #{what}" do
      expect { Puppet::Type.type(:distlock).new({ name: 'x' }.merge(attributes)) }.to raise_error(Puppet::Error)
    end
  end

  it 'is locked unless it is told otherwise, and reads numbers that come as strings' do
    resource = Puppet::Type.type(:distlock).new(name: 'x', timeout: '-1', until: 'run_end', ttl: '30')
    expect([resource[:ensure], resource[:timeout], resource[:ttl], resource.lock]).to eq([:locked, -1, 30, 'x'])
  end

  it 'comes after the config file, the commands and the package of the class' do
    catalog = Puppet::Resource::Catalog.new
    names = { file: ['/etc/distlock/distlock.yaml', '/usr/local/bin/distlock-puppet'], package: ['distlock-core'] }
    before = names.flat_map { |type, titles| titles.map { |title| Puppet::Type.type(type).new(name: title) } }
    lock = Puppet::Type.type(:distlock).new(name: 'x')
    catalog.add_resource(lock, *before)
    expect(lock.autorequire.map { |edge| edge.source.ref }).to match_array(before.map(&:ref))
  end
end
