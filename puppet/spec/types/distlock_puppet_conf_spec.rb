# frozen_string_literal: true

require 'spec_helper'

describe 'distlock_puppet_conf' do
  let(:title) { 'main/prerun_command' }

  it do
    is_expected.to be_valid_type.with_provider(:ini).with_properties([:ensure, :value]).with_parameters([:name, :path])
      .with_set_attributes(value: 'x')
  end

  { 'no value' => {}, 'two lines' => { value: "a\nb = c" }, 'an expansion' => { value: '$vardir/x' } }.each do |what, wrong|
    it "refuses #{what}" do
      expect { Puppet::Type.type(:distlock_puppet_conf).new({ name: 'main/x' }.merge(wrong)) }.to raise_error(Puppet::Error)
    end
  end

  it 'refuses a name without a section' do
    expect { Puppet::Type.type(:distlock_puppet_conf).new(name: 'x', value: 'y') }.to raise_error(Puppet::Error)
  end

  context 'with a file' do
    let(:folder) { Dir.mktmpdir }
    let(:path) { File.join(folder, 'puppet.conf') }

    after(:each) { FileUtils.rm_rf(folder) }

    def provider(name, **attributes)
      Puppet::Type.type(:distlock_puppet_conf).new(name: name, path: path, **attributes).provider
    end

    it 'writes one line, and leaves the others and the mode as they are' do
      File.write(path, "# mine\n[main]\ncertname = x\n\n[agent]\nnoop = true\n", perm: 0o640)
      setting = provider('agent/prerun_command', value: 'distlock-puppet acquire x')
      expect(setting.exists?).to be(false)
      setting.create
      expect(File.read(path)).to eq("# mine\n[main]\ncertname = x\n\n[agent]\nnoop = true\nprerun_command = distlock-puppet acquire x\n")
      expect(File.stat(path).mode & 0o777).to eq(0o640)
      expect([setting.exists?, setting.value]).to eq([true, 'distlock-puppet acquire x'])
    end

    it 'makes file and section where there are none' do
      provider('agent/prerun_command', value: 'x').create
      expect(File.read(path)).to eq("[agent]\nprerun_command = x\n")
    end

    it 'takes away its own line' do
      File.write(path, "[main]\npostrun_command = /opt/bin/distlock-puppet release x\na = b\n")
      setting = provider('main/postrun_command', ensure: 'absent')
      expect(setting.exists?).to be(true)
      setting.destroy
      expect(File.read(path)).to eq("[main]\na = b\n")
    end

    it "leaves another's line alone" do
      File.write(path, "[main]\nprerun_command = /usr/bin/etckeeper commit\n")
      expect(provider('main/prerun_command', ensure: 'absent').exists?).to be(false)
    end
  end
end
