# frozen_string_literal: true

require 'puppet/settings/ini_file'

Puppet::Type.type(:distlock_puppet_conf).provide(:ini) do
  desc 'Writes as `puppet config set` does: all other lines, including comments, stay unchanged.'

  OURS = %r{\A(\S*/)?distlock-puppet(\s|\z)}.freeze

  def exists?
    current = value
    return !current.nil? unless resource[:ensure] == :absent

    !current.nil? && OURS.match?(current)
  end

  def create
    write { |config| config.set(resource.section, resource.setting, resource[:value]) }
  end

  def destroy
    write { |config| config.delete(resource.section, resource.setting) }
  end

  def value
    return unless Puppet::FileSystem.exist?(path)

    found = Puppet::FileSystem.open(path, nil, 'r:UTF-8') { |file| Puppet::Settings::IniFile.parse(file) }
    line = found.setting(resource.section, resource.setting)
    line&.value
  end

  def value=(_)
    create
  end

  private

  def path
    resource[:path]
  end

  # Replaces the file atomically, and keeps the mode of an existing one: the agent may read it at any moment.
  def write(&change)
    text = Puppet::FileSystem.exist?(path) ? Puppet::FileSystem.read(path, encoding: 'UTF-8') : ''
    changed = StringIO.new(+text)
    Puppet::Settings::IniFile.update(changed, &change)
    Puppet::Util.replace_file(path, '0644') { |file| file.write(changed.string) }
  end
end
