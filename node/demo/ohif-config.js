// Settings of the OHIF viewer for an archive whose DICOMweb is under the same address: `ainode demo --ohif`, compose.yaml.
const modality = name => ({
  seriesMatchingRules: [{ attribute: 'Modality', constraint: { equals: name }, required: true }],
});
const viewport = selector => ({
  viewportOptions: { toolGroupId: 'default', allowUnmatchedView: true },
  displaySets: [{ id: selector }],
});

// `hangingProtocolId=results` in the address of a study: its segmentation and its report side by side.
const results = {
  id: 'results',
  name: 'Segmentation and report',
  protocolMatchingRules: [],
  toolGroupIds: ['default'],
  displaySetSelectors: { segmentation: modality('SEG'), report: modality('SR') },
  defaultViewport: viewport('segmentation'),
  stages: [
    {
      name: 'both',
      viewportStructure: { layoutType: 'grid', properties: { rows: 1, columns: 2 } },
      viewports: [viewport('segmentation'), viewport('report')],
    },
  ],
};

window.config = {
  routerBasename: '/',
  extensions: [{ id: 'ainode.results', getHangingProtocolModule: () => [{ name: 'results', protocol: results }] }],
  modes: [],
  showStudyList: true,
  maxNumberOfWebWorkers: 3,
  investigationalUseDialog: { option: 'never' },
  customizationService: [{ 'ohif.tours': { $set: [] } }],
  // Segmentations and reports are loaded without asking.
  disableConfirmationPrompts: true,
  defaultDataSourceName: 'pacs',
  dataSources: [
    {
      namespace: '@ohif/extension-default.dataSourcesModule.dicomweb',
      sourceName: 'pacs',
      configuration: {
        friendlyName: 'PACS',
        name: 'pacs',
        qidoRoot: '/dicom-web',
        wadoRoot: '/dicom-web',
        wadoUriRoot: '/wado',
        qidoSupportsIncludeField: true,
        imageRendering: 'wadors',
        thumbnailRendering: 'wadors',
        enableStudyLazyLoad: true,
        supportsWildcard: true,
        dicomUploadEnabled: false,
        omitQuotationForMultipartRequest: true,
        bulkDataURI: { enabled: true, relativeResolution: 'studies' },
      },
    },
  ],
};
